//! What no section alone can say of a recipe: sections that contradict each other, files and models
//! that are not there.

use rallrec_events::StageId;

use super::{DescribeSource, Recipe, TunedBy};
use crate::data::{By, GraphEdges};
use crate::eval::Score;
use crate::eval::rows;
use crate::merge::{Expert, TunedMean};
use crate::settings::{Checked, Faults, nearest};
use crate::store::{builtin, hub};
use crate::text::prompts::{OwnTemplate, ThinkTag};
use crate::text::ratings::Wording;

impl Recipe {
    /// Turns every reproducible defect of the authors' code on, where `faithful` asks for it.
    #[must_use]
    pub fn faithfully(mut self) -> Self {
        if self.faithful {
            self.data.make_faithful();
            self.graph.edges = GraphEdges::LeaveOneOut;
            self.predict.score = Score::DoubleSoftmax;
            self.predict.system = Some(String::new());
            self.tune.select_on_test = true;
            self.tune.faithful_bos = true;
            self.reason.prompt.think_tag = ThinkTag::User;
            self.retrieve = self.retrieve.faithful(self.data.kind.set().ids_are_rows);
            self.prompt.faithful_order = true;
            self.merge.tuned_mean = TunedMean::First;
            self.tune.lora.train_end_of_turn = false;
        }
        self
    }

    /// Files and models that the stages up to `until` need, and that are not there.
    pub fn missing(&self, until: Option<StageId>) -> Faults {
        let reaches = |stage: StageId| until.is_none_or(|last| stage <= last);
        let mut faults = Faults::default();
        faults.extend("data", self.data.missing());
        // A log without ratings goes through the graph stages; those of words only where one is
        // named.
        let named = matches!(until, Some(StageId::Describe | StageId::Embed | StageId::Align));
        let words = !self.data.is_implicit() || (named && !self.data.kind.set().graph_only);
        if let (DescribeSource::File, Some(file)) = (self.describe.source, &self.describe.file) {
            let what = format!("there is no file {}", file.display());
            let read = words && reaches(StageId::Describe);
            faults.unless(!read || file.is_file(), "describe.file", what, "check the path");
        }
        let writes = self.describe.source == DescribeSource::Model && reaches(StageId::Describe);
        for (name, expert) in &self.experts {
            let what = format!("there is no file {}", expert.file.display());
            let read = words && reaches(StageId::Predict);
            faults.unless(!read || expert.file.is_file(), &format!("experts.{name}.file"), what, "check the path");
        }
        if words && (writes || reaches(StageId::Embed)) {
            model(&mut faults, "model.path", &self.model.path);
        }
        if let Some(file) = self.prompt.file.as_ref().filter(|_| words && reaches(StageId::Prompts))
            && let Err(e) = OwnTemplate::read(file)
        {
            faults.unless(false, "prompt.file", format!("{}: {}", e.place(), e.what()), e.next_step());
        }
        if words && reaches(StageId::Embed) && !self.model.embedding.is_empty() {
            model(&mut faults, "model.embedding", &self.model.embedding);
        }
        if words && reaches(StageId::Reason) && !self.model.reasoning.is_empty() {
            model(&mut faults, "model.reasoning", &self.model.reasoning);
        }
        faults
    }
}

impl Recipe {
    /// Names of experts from files, and where they are named.
    fn experts_faults(&self, faults: &mut Faults) {
        let own = rows::names();
        for (name, expert) in &self.experts {
            let key = format!("experts.{name}");
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let what = format!("'{name}' is no plain name");
            faults.unless(plain, &key, what, "use letters, digits, `_` and `-`: it is the name of a row");
            let taken = own.contains(name) || Expert::OWN.iter().any(|expert| expert.name() == name);
            let what = format!("'{name}' is a row of every run, or an expert of its own");
            faults.unless(!taken, &key, what, "choose another name");
            faults.extend(&key, expert.contradictions());
        }
        for expert in &self.merge.experts {
            let Expert::Outside(name) = expert else { continue };
            let known = Expert::OWN.iter().map(Expert::name).chain(self.experts.keys().map(String::as_str));
            let near = nearest(name, known.clone()).map_or(String::new(), |near| format!("did you mean '{near}'? "));
            let next = format!("{near}The experts are: {}", known.collect::<Vec<_>>().join(", "));
            faults.unless(self.experts.contains_key(name), "merge.experts", format!("there is no '{name}'"), next);
        }
        let reference = self.evaluate.reference.as_str();
        let names: Vec<&str> = own.iter().chain(self.experts.keys()).map(String::as_str).collect();
        let next = match nearest(reference, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"? The rows are: {}", names.join("; ")),
            None => format!("the rows are: {}", names.join("; ")),
        };
        let known = names.contains(&reference);
        faults.unless(known, "evaluate.reference", format!("no row is called \"{reference}\""), next);
    }
}

fn model(faults: &mut Faults, key: &str, spec: &str) {
    if spec == builtin::NAME {
        return;
    }
    if let Err(e) = hub::resolve(spec) {
        faults.unless(false, key, format!("{} {}", e.place(), e.what()), e.next_step());
    }
}

impl Checked for Recipe {
    fn contradictions(&self) -> Faults {
        let mut faults = Faults::default();
        let name = &self.name;
        faults.unless(
            !name.contains(['/', '\\']) && !name.starts_with('.'),
            "name",
            format!("'{name}' is no plain name of a folder"),
            "leave out slashes and a leading point: the run's folder is named so",
        );
        faults.extend("data", self.data.contradictions());
        faults.extend("", self.data.split_faults());
        let by = self.data.split.by;
        faults.unless(
            self.graph.edges != GraphEdges::LeaveOneOut || matches!(by, By::Auto | By::Time),
            "data.split.by",
            format!("\"{}\", and graph.edges = \"leave_one_out\" (or faithful = true) is a split in time", by.name()),
            "leave one of the two out",
        );
        faults.extend("describe", self.describe.contradictions());
        faults.extend("graph.lightgcn", self.graph.lightgcn.contradictions());
        faults.extend("align", self.align.contradictions());
        faults.extend("retrieve", self.retrieve.contradictions());
        faults.extend("prompt", self.prompt.contradictions());
        faults.extend("collab", self.collab.contradictions());
        faults.extend("soft", self.soft.contradictions());
        faults.unless(
            self.prompt.file.is_none() || !self.soft.is_on(),
            "prompt.file",
            "a template of your own has no places for soft tokens",
            "leave it out, or set soft.source to \"none\"",
        );
        faults.extend("tune.lora", self.tune.lora.contradictions());
        faults.extend("predict", self.predict.contradictions());
        faults.extend("merge", self.merge.contradictions());
        faults.extend("evaluate", self.evaluate.contradictions());
        faults.extend("reason.certainty", self.reason.certainty.contradictions());
        let (strong, middle) = self.reason.certainty.thresholds(self.predict.score);
        faults.unless(
            middle <= strong,
            "reason.certainty.middle",
            format!("{middle} is above strong = {strong}"),
            "choose middle at most as large as strong",
        );
        faults.unless(
            self.describe.source != DescribeSource::File
                || self.describe.file.is_some()
                || self.data.kind.set().described,
            "describe.file",
            "describe.source = \"file\" needs a file of descriptions",
            "name the file, or set describe.source to \"model\" or \"none\"",
        );
        faults.unless(
            !self.merge.experts.contains(&Expert::Collaborative) || self.collab.wording != Wording::None,
            "merge.experts",
            "`collaborative` needs the causal features, and collab.wording = \"none\" makes none",
            "set collab.wording, e.g. to \"silent\"",
        );
        faults.unless(
            !self.tune.residual || self.collab.wording != Wording::None,
            "tune.residual",
            "there is nothing to add to: collab.wording = \"none\" makes no causal features",
            "set collab.wording, e.g. to \"silent\"",
        );
        faults.unless(
            !self.tune.residual || self.predict.score == Score::TwoWay,
            "tune.residual",
            "log odds are added, and predict.score = \"double_softmax\" (or faithful = true) gives none",
            "leave one of the two out",
        );
        faults.unless(
            self.reason.tuned_by != TunedBy::Answer || self.model.reasoning.is_empty(),
            "reason.tuned_by",
            "the adapter is of model.path, and model.reasoning is another model",
            "leave one of the two out",
        );
        let (reasoned, others) = (self.reason.test_rows, self.predict.ablation_rows);
        let enough = others == 0 || (reasoned > 0 && reasoned <= others);
        faults.unless(
            !self.reason.without_retrieval || enough,
            "reason.without_retrieval",
            format!("predict.ablation_rows = {others} makes prompts without retrieval for fewer rows than are reasoned about"),
            "set predict.ablation_rows to 0, which means all, or lower reason.test_rows",
        );
        self.experts_faults(&mut faults);
        let merged = (1..=rows::EXPERTS).find(|n| self.evaluate.reference == rows::merged_of(*n));
        faults.unless(
            merged.is_none_or(|n| n == self.merge.experts.len()),
            "evaluate.reference",
            format!("no merge of this recipe has so many experts: merge.experts lists {}", self.merge.experts.len()),
            "name another row, or list the experts in merge.experts",
        );
        faults
    }
}
