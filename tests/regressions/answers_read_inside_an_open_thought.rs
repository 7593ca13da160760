//! Today's chat templates of DeepSeek-R1-Distill end in an opening think tag, those of the first
//! release did not. The reasoning prompt opened a second thought behind the first, and Yes or No
//! was read inside a thought that nobody had closed: the probability was that of a word of
//! thinking.

use std::path::Path;

use rallrec::device::Device;
use rallrec::lm::{LanguageModel, Local, Options, Reading, Running};
use rallrec::monitor::Silent;
use rallrec::store::Message;
use rallrec::text::prompts::{
    Conversation, Prompt, ReasoningSettings, SecondPass, ThinkTag, opens_thought, reasoning, second_pass,
};

/// Our own templates, with the endings of both releases, and others that a maker might write.
const ENDINGS: [(&str, bool); 5] =
    [("<A>", false), ("<A><think>\n", true), ("<A><think>", true), ("<A>\n<think>\n\n", true), ("<A>\n", false)];

fn model(folder: &Path, ending: &str) -> Local {
    let ending = ending.replace('\n', "\\n");
    let template = format!(
        "{{% for message in messages %}}{{{{ '<' + message['role'] + '>' + message['content'] + '\n' }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '{ending}' }}}}{{% endif %}}"
    );
    with_template(folder, &template)
}

/// The built-in model with another chat template.
fn with_template(folder: &Path, template: &str) -> Local {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny-model");
    for entry in std::fs::read_dir(assets).unwrap().flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
    Local::load(folder.to_str().unwrap(), &Options::default()).unwrap()
}

fn prompt() -> Prompt {
    let messages = vec![Message::system("Be kind."), Message::user("Seen: Heat. Will the user like Up?".to_string())];
    Prompt { messages, split: 0, shown: vec![0], soft: Vec::new() }
}

/// What stands behind the assistant's header.
fn begun(model: &Local, tokens: &[u32]) -> String {
    let text = model.tokenizer.decode(tokens, false).unwrap();
    text.rsplit_once("<A>").unwrap_or_else(|| panic!("no header: {text}")).1.to_owned()
}

fn tags(text: &str) -> (usize, usize) {
    (text.matches("<think>").count(), text.matches("</think>").count())
}

#[test]
fn a_thought_is_opened_once_and_an_answer_is_read_behind_it() {
    for (ending, opens) in ENDINGS {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), ending);
        let of = |conversation: Conversation, scored: bool| {
            let reading = Reading::Conversation(conversation);
            let tokens = if scored { model.scored_tokens(&reading) } else { model.tokens(&reading) };
            begun(&model, &tokens.unwrap())
        };
        for (think_tag, opened) in [(ThinkTag::Assistant, 1), (ThinkTag::None, usize::from(opens))] {
            let settings = ReasoningSettings { think_tag, ..ReasoningSettings::default() };
            let begun = of(reasoning(&prompt(), "", &settings), false);
            assert_eq!(tags(&begun), (opened, 0), "{ending:?} {think_tag:?}: {begun:?}");
            assert!(opened == 0 || begun.trim_end().ends_with("<think>"), "{begun:?}");
        }
        for pass in [SecondPass::User, SecondPass::Assistant] {
            let settings = ReasoningSettings { second_pass: pass, ..ReasoningSettings::default() };
            let begun = of(second_pass(&prompt(), "a fine film</think>Yes.", &settings), true);
            let own = usize::from(opens || pass == SecondPass::Assistant);
            assert_eq!(tags(&begun), (own, own), "{ending:?} {pass:?}: {begun:?}");
            assert!(own == 0 || begun.trim_end().ends_with("</think>"), "inside a thought: {begun:?}");
            assert_eq!(begun.contains("a fine film"), pass == SecondPass::Assistant);
        }
        // The tuned model is asked for its answer right away, in tuning and in scoring.
        let begun = begun(&model, &model.prompt_tokens(&prompt()).unwrap());
        assert_eq!(tags(&begun), (usize::from(opens), usize::from(opens)), "{ending:?}: {begun:?}");
        assert!(!opens_thought(&begun));
    }
}

/// A template as a maker publishes it: `scripts/think-tags` runs this test with that of
/// DeepSeek-R1-Distill-Qwen-7B, whose first release opens no thought. Here one stands in for it
/// that opens one.
#[test]
fn a_published_template_has_one_thought_and_the_answer_behind_it() {
    let own = "{{bos_token}}{% for m in messages %}{% if m['role'] == 'user' %}{{'<｜User｜>' + m['content']}}{% endif %}\
               {% if m['role'] == 'assistant' %}{{'<｜Assistant｜>' + m['content'].split('</think>')[-1]}}{% endif %}\
               {% endfor %}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}";
    let template = match std::env::var_os("RALLREC_THINK_TEMPLATE") {
        Some(file) => std::fs::read_to_string(file).unwrap(),
        None => own.to_owned(),
    };
    let folder = tempfile::tempdir().unwrap();
    let model = with_template(folder.path(), &template);
    let of = |conversation: Conversation, scored: bool| {
        let reading = Reading::Conversation(conversation);
        let tokens = if scored { model.scored_tokens(&reading) } else { model.tokens(&reading) };
        let text = model.tokenizer.decode(&tokens.unwrap(), false).unwrap();
        // The last header: the assistant's turns of the template's own have none of these tags.
        text.rsplit_once("Assistant｜>").unwrap_or_else(|| panic!("no header: {text}")).1.to_owned()
    };
    for think_tag in [ThinkTag::Assistant, ThinkTag::None] {
        let settings = ReasoningSettings { think_tag, ..ReasoningSettings::default() };
        let begun = of(reasoning(&prompt(), "", &settings), false);
        let opens = template.contains("<｜Assistant｜><think>");
        let wanted = usize::from(opens || think_tag == ThinkTag::Assistant);
        assert_eq!(tags(&begun), (wanted, 0), "{think_tag:?}: {begun:?}");
    }
    for pass in [SecondPass::User, SecondPass::Assistant] {
        let settings = ReasoningSettings { second_pass: pass, ..ReasoningSettings::default() };
        let begun = of(second_pass(&prompt(), "a fine film</think>Yes.", &settings), true);
        let (opened, closed) = tags(&begun);
        assert!(opened == closed && !opens_thought(&begun), "{pass:?}: {begun:?}");
    }
}

/// The tags are control tokens, as the model knows them, and not the letters that spell them.
#[test]
fn tags_of_ours_are_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "<A><think>\n");
    let close = model.tokenizer.single_token("</think>").unwrap();
    let open = model.tokenizer.single_token("<think>").unwrap();
    let settings = ReasoningSettings { second_pass: SecondPass::Assistant, ..ReasoningSettings::default() };
    for conversation in
        [second_pass(&prompt(), "hm", &ReasoningSettings::default()), second_pass(&prompt(), "hm", &settings)]
    {
        let tokens = model.scored_tokens(&Reading::Conversation(conversation)).unwrap();
        let last = |token: u32| tokens.iter().rposition(|t| *t == token).unwrap();
        assert!(last(open) < last(close) && last(close) + 4 > tokens.len(), "{tokens:?}");
    }
}

/// The published code reads one of its models at the second token of the answer.
#[test]
fn an_answer_can_be_read_at_a_later_token() {
    let local = Local::load("builtin", &Options::default()).unwrap();
    let running = Running::new(&local, &local.model, &Device::Cpu).unwrap();
    let at = |answer_position: usize| {
        let settings = ReasoningSettings { answer_position, ..ReasoningSettings::default() };
        second_pass(&prompt(), "She likes drama.", &settings)
    };
    let read = |conversation: Conversation| {
        let mut found = Vec::new();
        let bundles = [vec![Reading::Conversation(conversation)]];
        running
            .score(&bundles, ["Yes", "No"], &Silent, &mut |_, choices| {
                found.extend(choices.iter().map(|c| (c.logits[0], c.logits[1])));
                Ok(())
            })
            .unwrap();
        found[0]
    };
    // By hand: the likeliest token, put behind the words, and the place behind it.
    let tokens = local.scored_tokens(&Reading::Conversation(at(1))).unwrap();
    let sampling = rallrec::generate::GenerateSettings { temperature: 0.0, max_new_tokens: 1, ..Default::default() };
    let mut written: Vec<rallrec::generate::Sample> = Vec::new();
    let one = rallrec::generate::Prompt::new(0, tokens.clone(), 1);
    rallrec::generate::generate(&local.model, &[one], &[], &sampling, &Silent, &mut written).unwrap();
    let longer = [tokens, written[0].tokens.clone()].concat();
    let ids = local.answer_ids(["Yes", "No"]).unwrap();
    let wanted = rallrec::generate::scoring::score(&local.model, &[vec![longer]], ids, 2048).unwrap();
    let (first, second) = (read(at(1)), read(at(2)));
    let wanted = (wanted[0][0].logits[0], wanted[0][0].logits[1]);
    assert!((second.0 - wanted.0).abs() <= 1e-4 && (second.1 - wanted.1).abs() <= 1e-4, "{second:?} {wanted:?}");
    assert!((first.0 - second.0).abs() > 1e-3 || (first.1 - second.1).abs() > 1e-3, "the key does nothing");
}
