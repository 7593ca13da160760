//! Prompts as a whole: wording, the common beginning, budgets, the reasoning passes.

use proptest::prelude::*;

use super::*;
use crate::data::{Dataset, Field, Item, ItemIdx, Rated, RawId, User, UserIdx};
use crate::store::chat::Role;
use crate::text::ratings::{RatingSummary, Stated, Wording};

fn dataset(noun: &str) -> Dataset {
    let item = |title: &str| Item {
        raw: RawId(title.into()),
        title: title.into(),
        genres: vec!["Drama".into()],
        fields: vec![Field { name: "author".into(), value: "A. Writer".into() }],
    };
    let user = |fields: &[(&str, &str)]| User {
        raw: RawId("1".into()),
        fields: fields.iter().map(|(n, v)| Field { name: n.to_string(), value: v.to_string() }).collect(),
    };
    Dataset {
        name: "test".into(),
        noun: noun.into(),
        scale: (1.0, 5.0),
        has_times: true,
        items: ["Heat (1995)", "Schindler's List (1993)", "Toy\nStory", "Target (2000)"].map(item).into(),
        users: vec![
            user(&[("gender", "female"), ("age", "25-34"), ("occupation", "programmer"), ("zip", "12345")]),
            user(&[("country", "germany"), ("age", "unknown")]),
            user(&[]),
        ],
        interactions: vec![],
    }
}

fn shown() -> Vec<Rated> {
    let rated = |item, rating| Rated { item: ItemIdx(item), rating, time: 0 };
    vec![rated(0, 4.0), rated(1, 1.0), rated(2, 4.5)]
}

fn stated() -> Stated {
    let summary = RatingSummary { liked: 0.8, stars: 4.1, count: 9 };
    Stated { wording: Wording::Verdict, item: summary, user: summary, affinity: None, p: 0.9 }
}

fn text(noun: &str, user: u32, settings: &PromptSettings, stated: Option<&Stated>) -> Prompt {
    let data = dataset(noun);
    Prompter::new(&data, 3.0, settings).unwrap().build(UserIdx(user), &shown(), ItemIdx(3), stated).unwrap()
}

#[test]
fn the_paper_prompt_for_movies() {
    let p = text("movie", 0, &PromptSettings::default(), None);
    assert_eq!(p.messages[0].content, FRIENDLY);
    assert_eq!(
        p.user(),
        "The user is female. Her job is programmer. Her age is 25-34.\n\
         She watched the following movies in order and rated them:\n\
         ['Heat (1995) (4 stars)', \"Schindler's List (1993) (1 star)\", 'Toy\\nStory (4.5 stars)']\n\
         More stars mean that the user liked the movie more. A new movie counts as liked when the user could rate it \
         above 3 stars.\n\
         Will the user like the movie ***Target (2000)***? Answer only with yes or no."
    );
    assert!(p.prefix().ends_with("stars.\n") && p.suffix().starts_with("Will the user"));
}

#[test]
fn the_paper_prompt_for_books_asks_first() {
    let settings = PromptSettings { numbered: true, threshold_note: false, ..PromptSettings::default() };
    let p = text("book", 1, &settings, None);
    assert_eq!(
        p.user(),
        "The user is from germany.\n\
         The user read the following books in order and rated them:\n\
         ['0. Heat (1995) (4 stars)', \"1. Schindler's List (1993) (1 star)\", '2. Toy\\nStory (4.5 stars)']\n\
         Will the user like the book ***Target (2000)***?\n\
         More stars mean that the user liked the book more.\n\
         Answer only with yes or no."
    );
}

#[test]
fn short_and_grouped_wording() {
    assert_eq!(
        text("movie", 0, &PromptSettings::short(), Some(&stated())).user(),
        "User: female, 25-34, programmer.\nRated movies (1 to 5):\nHeat (1995): 4\nSchindler's List (1993): 1\n\
         Toy Story: 4.5\nLiked means above 3.\nRatings alone suggest: very likely yes (90%).\n\
         Will the user like ***Target (2000)***? Yes or no?"
    );
    let grouped =
        PromptSettings { list: List::Grouped, threshold_note: false, profile: false, ..PromptSettings::short() };
    assert_eq!(
        text("movie", 0, &grouped, None).user(),
        "Rated movies (1 to 5):\nLiked: Heat (1995); Toy Story\nDisliked: Schindler's List (1993)\n\
         Will the user like ***Target (2000)***? Yes or no?"
    );
}

#[test]
fn wording_follows_the_order() {
    for (order, words) in [
        (Order::InOrder, "She watched the following movies in order and rated them:"),
        (
            Order::MostRelevant,
            "She watched the following movies, which are the most relevant to the new movie, and rated them:",
        ),
        (Order::Relevant, "She watched the following movies, which are relevant to the new movie, and rated them:"),
    ] {
        assert!(
            text("movie", 0, &PromptSettings { order, ..PromptSettings::default() }, None).user().contains(words),
            "{words}"
        );
    }
    assert!(
        text("", 2, &PromptSettings::default(), None)
            .user()
            .starts_with("The user rated the following items in order:")
    );
}

#[test]
fn causal_features_stand_where_they_are_placed() {
    let at = |placement| text("movie", 0, &PromptSettings { placement, ..PromptSettings::default() }, Some(&stated()));
    let line = "Ratings alone suggest: very likely yes (90%).\n";
    let first = at(Placement::First);
    assert!(first.user().starts_with(line) && first.prefix().is_empty());
    assert!(at(Placement::BeforeQuestion).suffix().starts_with(line));
    assert!(at(Placement::AfterQuestion).user().ends_with(&format!("(2000)***?\n{line}Answer only with yes or no.")));
}

#[test]
fn system_turns_and_bad_settings() {
    let none = PromptSettings { system_turn: false, ..PromptSettings::default() };
    assert_eq!(text("movie", 0, &none, None).messages.len(), 1);
    let empty = PromptSettings { system: String::new(), ..PromptSettings::default() };
    assert_eq!(text("movie", 0, &empty, None).messages[0].content, "");
    let data = dataset("movie");
    for bad in [
        PromptSettings { date: "tomorrow".into(), ..PromptSettings::default() },
        PromptSettings { date: "2024-13-01".into(), ..PromptSettings::default() },
    ] {
        assert_eq!(Prompter::new(&data, 3.0, &bad).err().unwrap().place(), "date");
    }
    let settings = PromptSettings::default();
    let prompter = Prompter::new(&data, 3.0, &settings).unwrap();
    assert!(prompter.build(UserIdx(9), &[], ItemIdx(0), None).is_err());
    assert!(prompter.build(UserIdx(0), &[], ItemIdx(9), None).is_err());
    assert!(prompter.build_some(UserIdx(0), &shown(), &[7], ItemIdx(0), None).is_err());
    // No history: no list and no empty brackets.
    let p = prompter.build(UserIdx(2), &[], ItemIdx(0), None).unwrap();
    assert!(p.user().starts_with("More stars") && !p.user().contains('['));
}

proptest! {
    #[test]
    fn prompts_of_one_user_share_their_beginning(
        target in 0u32..4, other in 0u32..4, user in 0u32..3, style in 0usize..2, list in 0usize..4, noun in 0usize..3
    ) {
        let settings = PromptSettings {
            style: [Style::Paper, Style::Short][style],
            list: [List::Python, List::Lines, List::Inline, List::Grouped][list],
            ..PromptSettings::default()
        };
        let data = dataset(["movie", "book", "thing"][noun]);
        let prompter = Prompter::new(&data, 3.0, &settings).unwrap();
        let a = prompter.build(UserIdx(user), &shown(), ItemIdx(target), Some(&stated())).unwrap();
        let b = prompter.build(UserIdx(user), &shown(), ItemIdx(other), None).unwrap();
        prop_assert_eq!(a.prefix(), b.prefix());
        prop_assert!(a.prefix().ends_with('\n') && a.suffix().contains("***"));
        prop_assert_eq!(format!("{}{}", a.prefix(), a.suffix()), a.user());
    }

    #[test]
    fn fitting_keeps_as_many_items_as_the_budget_allows(limit in 40usize..120, back in any::<bool>(), n in 0usize..30) {
        let (data, settings) = (dataset("movie"), PromptSettings::default());
        let many: Vec<Rated> = (0..n).map(|i| Rated { item: ItemIdx(i as u32 % 3), rating: 4.0, time: 0 }).collect();
        let prompter = Prompter::new(&data, 3.0, &settings).unwrap();
        let build = |keep: &[usize]| prompter.build_some(UserIdx(2), &many, keep, ItemIdx(3), None);
        let count = |p: &Prompt| Ok(p.user().split_whitespace().count());
        let order = drop_order(if back { Drop::Back } else { Drop::Front }, n);
        let fitted = fit(&build, &order, &count, limit);
        let least = count(&build(&[]).unwrap()).unwrap();
        if least > limit {
            prop_assert!(n == 0 || fitted.is_err());
        } else {
            let fitted = fitted.unwrap();
            prop_assert!(fitted.tokens <= limit);
            prop_assert_eq!(fitted.prompt.shown.len() + fitted.dropped, n);
            if fitted.dropped > 0 {
                let mut one_more = order[fitted.dropped - 1..].to_vec();
                one_more.sort_unstable();
                prop_assert!(count(&build(&one_more).unwrap()).unwrap() > limit);
                prop_assert_eq!(fitted.prompt.shown.contains(&0), back && !fitted.prompt.shown.is_empty());
            }
        }
    }
}

#[test]
fn cut_prompts_are_counted() {
    let mut report = CutReport::default();
    [0, 3, 0, 1].iter().for_each(|&d| report.add(d));
    assert_eq!(report, CutReport { prompts: 4, cut: 2, items: 4 });
}

#[test]
fn the_reasoning_prompt_correct_and_faithful() {
    let prompt = text("movie", 0, &PromptSettings::default(), None);
    let hint = "\nSomeone else thinks the answer is Yes.\n";
    let right = reasoning(&prompt, hint, &ReasoningSettings::default());
    assert_eq!(
        (right.assistant_prefix.content.as_str(), right.generation_prompt, right.extra_bos),
        ("<think>\n", true, false)
    );
    assert_eq!(right.messages[0].content, "");
    assert_eq!(right.messages[1].content, format!("{}{hint}", prompt.user()));
    let faithful = ReasoningSettings { think_tag: ThinkTag::User, ..ReasoningSettings::default() };
    let theirs = reasoning(&prompt, hint, &faithful);
    assert_eq!(
        (theirs.assistant_prefix.content.as_str(), theirs.generation_prompt, theirs.extra_bos),
        ("", false, true)
    );
    assert!(theirs.messages[1].content.ends_with("is Yes.\n\n<think>"));
    let none = reasoning(&prompt, "", &ReasoningSettings { think_tag: ThinkTag::None, ..Default::default() });
    assert!(
        none.assistant_prefix.content.is_empty()
            && none.generation_prompt
            && !none.messages[1].content.contains("think>")
    );
}

#[test]
fn the_second_pass_gives_the_chain_of_thought_back() {
    let prompt = text("movie", 0, &PromptSettings::default(), None);
    let user = second_pass(&prompt, "She likes drama.</think>Yes.", &ReasoningSettings::default());
    let want = format!("{}\n<think>\nShe likes drama.\n</think>", prompt.user());
    assert_eq!(user.messages.iter().find(|m| m.role == Role::User).unwrap().content, want);
    assert!(user.generation_prompt && user.assistant_prefix.content.is_empty() && !user.extra_bos);
    let settings = ReasoningSettings { second_pass: SecondPass::Assistant, ..Default::default() };
    let assistant = second_pass(&prompt, "no tag", &settings);
    assert_eq!(assistant.messages[1].content, prompt.user());
    assert_eq!(assistant.assistant_prefix.content, "<think>\nno tag\n</think>\n\n");
}

#[test]
fn the_description_request() {
    let messages = description(&dataset("book"), ItemIdx(0)).unwrap();
    assert_eq!(messages[0].content, FRIENDLY);
    let want = "description of the book \"Heat (1995)\" (genre: Drama; author: A. Writer). Cover";
    assert!(messages[1].content.contains(want), "{}", messages[1].content);
    assert!(messages[1].content.contains("fewer than 80 words") && messages[1].content.contains("author's style"));
    assert!(description(&dataset("book"), ItemIdx(9)).is_err());
    assert_eq!(clean_description(" a \"big\"\r\nfilm\nhere \n"), "a big film here");
}

#[test]
fn settings_survive_toml_and_refuse_unknown_keys() {
    let settings = PromptSettings::short();
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<PromptSettings>(&text).unwrap(), settings);
    assert!(toml::from_str::<PromptSettings>("numbered = true").unwrap().numbered);
    assert!(toml::from_str::<PromptSettings>("number = true").is_err());
}

#[test]
fn soft_tokens_stand_behind_titles_and_change_no_word() {
    use crate::models::soft_prompt::Items;
    let base = [PromptSettings::default(), PromptSettings::short()];
    let places = [Placement::BeforeQuestion, Placement::AfterQuestion, Placement::First];
    for noun in ["movie", "book"] {
        for (settings, numbered) in base.iter().flat_map(|s| [(s, false), (s, true)]) {
            for (list, placement) in [List::Python, List::Lines, List::Inline, List::Grouped]
                .into_iter()
                .flat_map(|l| places.map(|p| (l, p)))
            {
                let settings = PromptSettings { list, placement, numbered, ..settings.clone() };
                let data = dataset(noun);
                let plain = Prompter::new(&data, 3.0, &settings).unwrap();
                let build = |p: Prompter<'_>| p.build(UserIdx(0), &shown(), ItemIdx(3), Some(&stated())).unwrap();
                let marked = build(plain.with_soft(Some(SoftPlaces { items: Items::All, user: Some(9) })));
                assert_eq!(marked.without_soft(), build(plain));
                let titles: Vec<(u32, &str)> = marked.soft.iter().map(|m| (m.token, &marked.user()[..m.at])).collect();
                let order = if list == List::Grouped { [9, 0, 2, 1, 3] } else { [9, 0, 1, 2, 3] };
                assert_eq!(titles.iter().map(|t| t.0).collect::<Vec<_>>(), order, "{settings:?}");
                assert_eq!(titles[0].1, "");
                for (token, before) in &titles[1..] {
                    let title = match (token, list) {
                        (0, _) => "Heat (1995)",
                        (1, _) => "Schindler's List (1993)",
                        (2, List::Python) => "Toy\\nStory",
                        (2, _) => "Toy Story",
                        _ => "***Target (2000)",
                    };
                    assert!(before.ends_with(title), "{token} behind {before:?}");
                }
                let target = build(plain.with_soft(Some(SoftPlaces { items: Items::Target, user: None })));
                assert_eq!(target.soft, marked.soft[4..]);
            }
        }
    }
}

#[test]
fn a_shuffled_history_is_in_no_order() {
    use crate::retrieval::Template::{High, Low, Rerank, Sequential, Simple};
    let shuffled = Dataset { has_times: false, ..dataset("book") };
    let said = |dataset: &Dataset, template, faithful_order| {
        let base = PromptSettings { faithful_order, ..PromptSettings::default() };
        let settings = base.of_template(template, dataset);
        let prompter = Prompter::new(dataset, 3.0, &settings).unwrap();
        prompter.build(UserIdx(0), &shown(), ItemIdx(3), None).unwrap().user().to_owned()
    };
    for template in [Simple, Sequential] {
        let text = said(&shuffled, template, false);
        assert!(text.contains("She read the following books and rated them:"), "{text}");
        for text in [said(&shuffled, template, true), said(&dataset("book"), template, false)] {
            assert!(text.contains("She read the following books in order and rated them:"), "{text}");
        }
    }
    for template in [High, Low, Rerank, Sequential, Simple] {
        assert!(!said(&shuffled, template, false).contains("in order"), "{template:?}");
    }
    // A thing that is only rated has no second verb.
    let things = Dataset { has_times: false, ..dataset("") };
    assert!(said(&things, Simple, false).contains("rated the following items:"));
}

/// The authors' template `low` of books numbers its items and lacks the note on the threshold.
#[test]
fn low_of_books_is_as_published() {
    use crate::retrieval::Template::{High, Low};
    let said = |noun: &str, template, base: &PromptSettings| {
        let data = dataset(noun);
        let settings = base.of_template(template, &data);
        let prompter = Prompter::new(&data, 3.0, &settings).unwrap();
        prompter.build(UserIdx(0), &shown(), ItemIdx(3), None).unwrap().user().to_owned()
    };
    let paper = PromptSettings::default();
    let low = said("book", Low, &paper);
    assert!(low.contains("['0. Heat (1995) (4 stars)', ") && !low.contains("counts as liked"), "{low}");
    for text in [said("book", High, &paper), said("movie", Low, &paper), said("book", Low, &PromptSettings::short())] {
        assert!(
            !text.contains("0. Heat") && (text.contains("counts as liked") || text.contains("Liked means")),
            "{text}"
        );
    }
}

fn in_own_words(source: &str, user: u32, stated: Option<&Stated>) -> crate::Result<Prompt> {
    let (data, settings) = (dataset("movie"), PromptSettings::default());
    let own = OwnTemplate::new("mine.jinja", source.to_owned())?;
    let prompter = Prompter::new(&data, 3.0, &settings)?.with_own(Some(&own));
    prompter.build(UserIdx(user), &shown(), ItemIdx(3), stated)
}

#[test]
fn a_template_of_ones_own_writes_the_users_turn() {
    let source = "{% if user.age %}Someone of {{ user.age }}{% else %}Someone{% endif %} {{ did }} {{ k }} {{ nouns }}.\n\
                  {% for item in items %}\n- {{ item.title }}, {{ item.genres | join('/') }}, by {{ item.author }}: \
                  {{ item.rating }} of {{ highest }}{{ ' (liked)' if item.liked }}\n{% endfor %}\n\
                  {{ ratings }}\nAnd {{ target.title }}, a {{ noun }}? Above {{ threshold }} is a yes.\n";
    let prompt = in_own_words(source, 0, Some(&stated())).unwrap();
    assert_eq!(
        prompt.user(),
        "Someone of 25-34 watched 3 movies.\n\
         - Heat (1995), Drama, by A. Writer: 4 of 5 (liked)\n\
         - Schindler's List (1993), Drama, by A. Writer: 1 of 5\n\
         - Toy Story, Drama, by A. Writer: 4.5 of 5 (liked)\n\
         Ratings alone suggest: very likely yes (90%).\n\
         And Target (2000), a movie? Above 3 is a yes."
    );
    assert_eq!((prompt.split, prompt.shown.len(), prompt.messages.len()), (0, 3, 2));
    assert!(in_own_words(source, 2, None).unwrap().user().starts_with("Someone watched"));
}

#[test]
fn the_built_in_prompt_can_be_written_as_a_template() {
    let source = "{{ profile }}\n{{ introduction }}\n{{ list }}\n{{ notes }}\n{{ question }} {{ answer_only }}";
    let own = in_own_words(source, 0, None).unwrap();
    assert_eq!(own.user(), text("movie", 0, &PromptSettings::default(), None).user());
    // Every variable is there for every row.
    for (name, meaning) in VARIABLES {
        assert!(!meaning.is_empty());
        let source = format!("{{{{ {name} }}}} {{{{ question }}}}");
        in_own_words(&source, 2, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // They are listed where `rallrec explain` and the documentation list them.
    let schema = crate::settings::schema_of::<PromptSettings>().unwrap();
    let root = crate::settings::Schema::root(&schema);
    let explained = root.key("file").unwrap().description().unwrap().replace("\n  ", " ");
    let docs = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipe.md"));
    for (name, meaning) in VARIABLES {
        assert!(explained.contains(&format!("`{name}`: {meaning}")), "{name}: {explained}");
        assert!(docs.contains(&format!("| `{name}` | ")), "{name} is not in docs/recipe.md");
    }
}

#[test]
fn a_template_that_fails_names_its_file_and_line() {
    let fails = |source: &str, user| in_own_words(source, user, None).unwrap_err().to_string();
    for (source, wanted) in [
        ("one\n{{ titel }}", "mine.jinja:2: there is no variable `titel`"),
        (
            "{{ question }}\n\n{% for x in itms %}{{ x }}{% endfor %}",
            "mine.jinja:3: there is no variable `itms`\n  next: did you mean `items`?",
        ),
        ("one\n{% if %}", "mine.jinja:2: the template fails: "),
        ("{{ question }}\n{{ user.shoe_size }}", "mine.jinja:2: the template fails: "),
        ("{{ question }}\n{{ target.titel }}", "mine.jinja:2: the template fails: "),
        ("{# nothing #}", "mine.jinja: the template says nothing"),
        ("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}", "mine.jinja"),
    ] {
        let said = fails(source, 0);
        assert!(said.starts_with(wanted) && said.contains("next: "), "{source:?}: {said}");
    }
    // A field that some users lack.
    let source = "{{ user.age }}: {{ question }}";
    assert!(in_own_words(source, 0, None).is_ok());
    assert!(fails(source, 2).contains("{% if user.age %}"));
    let missing = OwnTemplate::read(std::path::Path::new("/nonexistent/mine.jinja")).err().unwrap();
    assert!(missing.to_string().contains("/nonexistent/mine.jinja"), "{missing}");
}
