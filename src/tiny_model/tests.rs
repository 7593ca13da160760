use super::*;
use crate::data::{Kind, build_samples};
use crate::monitor::Silent;
use crate::store::{LoadOptions, load};
use crate::tune::GroupSource;

/// As little as there can be of everything.
fn small() -> TinyModelSettings {
    TinyModelSettings {
        steps: 3,
        batch: 3,
        worlds: 1,
        users: 30,
        items: 40,
        ratings: 600,
        hidden: 64,
        layers: 1,
        ..TinyModelSettings::default()
    }
}

#[test]
fn the_same_settings_give_the_same_bytes() {
    let base = tempfile::tempdir().unwrap();
    let write = |name: &str, settings: &TinyModelSettings| {
        let folder = base.path().join(name);
        let made = make(settings, &Silent).unwrap();
        assert_eq!(made.history.steps.len() as u64, settings.steps);
        save(&made, &folder).unwrap();
        ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"]
            .map(|file| std::fs::read(folder.join(file)).unwrap())
    };
    let first = write("a", &small());
    assert!(first == write("b", &small()), "two runs differ");
    let other = write("c", &TinyModelSettings { seed: 2, ..small() });
    assert_ne!(first[4], other[4], "the seed changes nothing");
    let loaded = load(&base.path().join("a"), &LoadOptions::default()).unwrap();
    assert!(!loaded.chat.is_fallback());
    loaded.tokenizer.single_token("Yes").unwrap();
    loaded.tokenizer.single_token("No").unwrap();
    assert_eq!(loaded.config.eos, [loaded.tokenizer.token_id(tokenizer::END).unwrap()]);
}

#[test]
fn bad_settings_are_named() {
    for (settings, name) in [
        (TinyModelSettings { steps: 0, ..TinyModelSettings::default() }, "steps"),
        (TinyModelSettings { batch: 0, ..TinyModelSettings::default() }, "batch"),
        (TinyModelSettings { worlds: 0, ..TinyModelSettings::default() }, "worlds"),
        (TinyModelSettings { vocab: 100, ..TinyModelSettings::default() }, "vocab"),
        (TinyModelSettings { hidden: 100, ..TinyModelSettings::default() }, "hidden"),
        (TinyModelSettings { layers: 0, ..TinyModelSettings::default() }, "layers"),
        (TinyModelSettings { learning_rate: f64::NAN, ..TinyModelSettings::default() }, "learning_rate"),
        (TinyModelSettings { items: 1, ..TinyModelSettings::default() }, "items"),
    ] {
        let error = make(&settings, &Silent).unwrap_err();
        assert!(error.place().contains(name) && !error.next_step().is_empty(), "{error}");
        assert_eq!(error.kind(), crate::Kind::Usage);
    }
}

#[test]
fn the_worlds_are_not_the_demos() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..20 {
        for i in 0..20 {
            let world = TinyModelSettings { seed, ..TinyModelSettings::default() }.world(i);
            assert!(world.seed > u64::from(u32::MAX), "{}", world.seed);
            assert!(seen.insert(world.seed), "two worlds are one");
        }
    }
}

/// Every lesson fits, teaches only its answer, and joins prompt and answer at the places where
/// tokens do not merge.
#[test]
fn lessons_are_sound() {
    let settings = small();
    let worlds = [World::new(&settings.world(0)).unwrap()];
    let json = tokenizer::learn(&worlds, &settings).unwrap();
    let tokenizer = Tokenizer::from_json(json.as_bytes(), &tokenizer::settings()).unwrap();
    let chat = ChatTemplate::new(fixture::CHAT_TEMPLATE, &tokenizer).unwrap();
    let course = Course::new(&worlds, &tokenizer, &chat, 1, 48, 1024);
    let end = tokenizer.token_id(tokenizer::END).unwrap();
    let [yes, no] = ["Yes", "No"].map(|t| tokenizer.single_token(t).unwrap());
    let (mut short, mut chains) = (0, 0);
    for i in 0..48 {
        let group = course.group(i).unwrap();
        group.check(tokenizer.size(), 1024).unwrap();
        assert_eq!(group, course.group(i).unwrap());
        for branch in &group.branches {
            let answer = &branch.tokens[branch.targets.clone()];
            if group.prefix.is_empty() {
                continue;
            }
            assert_eq!(answer.last(), Some(&end), "lesson {i}");
            if answer.len() == 3 {
                assert!(answer[0] == yes || answer[0] == no, "lesson {i}");
                short += 1;
            }
            let text = tokenizer.decode(answer, true).unwrap();
            if text.contains("</think>") {
                let verdict = crate::text::answer::hard_answer(&text, Default::default());
                assert!(verdict.is_some() && text.contains("So "), "{text}");
                chains += 1;
            }
            let all = [group.prefix.as_slice(), &branch.tokens].concat();
            let text = tokenizer.decode(&all, false).unwrap();
            assert_eq!(tokenizer.encode(&text, true).unwrap(), all, "lesson {i}");
        }
    }
    assert!(short > 20 && chains > 10, "{short} {chains}");
    // The facts of the rows come from the same data that any run would use.
    build_samples(&worlds[0].dataset, &crate::data::DataSettings::new(Kind::SYNTHETIC, "")).unwrap();
}
