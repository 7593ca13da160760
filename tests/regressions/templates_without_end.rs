//! Two nested loops in a model's chat template kept `model inspect` busy for ever, and a text
//! doubled in one took 6 GB. A tokenizer's normalizers did the same. All of it ends after 1.2 s of
//! processor time, and the error names the file.

use rallrec::store::{ChatTemplate, Message, Tokenizer, fixture};
use serde_json::{Value, json};

/// A model folder with this template, and the tokenizer after a change.
fn inspect(template: &str, change: impl Fn(&mut Value)) -> (tempfile::TempDir, rallrec::Result<Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    let config = fixture::config(rallrec::models::decoder::Family::LLAMA);
    let weights = fixture::weights(&config, 5, rallrec::tensor::Dtype::F32).unwrap();
    let mut json: Value = serde_json::from_str(&fixture::tokenizer_json(false).unwrap()).unwrap();
    change(&mut json);
    let path = folder.path().join("model");
    let dtype = rallrec::tensor::Dtype::F32;
    rallrec::store::save_hf(&path, &config, &weights, dtype, &json.to_string(), None).unwrap();
    if !template.is_empty() {
        std::fs::write(path.join("chat_template.jinja"), template).unwrap();
    }
    let seen = rallrec::store::inspect::inspect(&path).map(|summary| summary.source.notes);
    (folder, seen)
}

#[test]
fn templates_that_loop_or_grow_are_refused() {
    let doubled =
        |set: &str| format!("{{% set ns = namespace(x='aaaa') %}}{{% for i in range(40) %}}{set}{{% endfor %}}");
    let cases = [
        ("loops", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".to_owned()),
        ("joined", doubled("{% set ns.x = ns.x ~ ns.x %}")),
        ("added", doubled("{% set ns.x = ns.x + ns.x %}")),
        ("captured", doubled("{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}")),
        ("replaced", doubled("{% set ns.x = ns.x.replace('a', ns.x) %}")),
        ("joined by a filter", doubled("{% set ns.x = [ns.x, ns.x]|join(ns.x) %}")),
        ("lists", doubled("{% set ns.x = (ns.x|list + ns.x|list)|list %}")),
        ("padded", "{{ '%4000000000d'|format(1) }}".to_owned()),
        ("printed", "{% for i in range(100000) %}{{ 'a' * 100000 }}{% endfor %}".to_owned()),
        (
            "searched",
            "{% set x = ('a' * 100000) * 100 %}{% for i in range(20000) %}{{ 'b' in x }}{% endfor %}".to_owned(),
        ),
        ("recursion", "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 2) }}{% endmacro %}{{ m(0) }}".to_owned()),
        (
            "nested",
            "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"
                .to_owned(),
        ),
    ];
    for (what, template) in cases {
        let (_folder, seen) = inspect(&template, |_| {});
        // A template may refuse to go on by itself: then the model is read, and the chat says so.
        if let Err(error) = &seen {
            assert!(error.place().contains("chat_template.jinja"), "{what}: {error}");
            assert!(error.what().contains("more than") || error.what().contains("did not end"), "{what}: {error}");
        }
        assert!(seen.is_err() || ["padded", "recursion", "searched"].contains(&what), "{what}");
    }
}

#[test]
fn a_template_that_only_grows_with_its_text_fails_when_it_is_used() {
    let tokenizer = Tokenizer::from_json(fixture::tokenizer_json(false).unwrap().as_bytes(), &Value::Null).unwrap();
    let template = "{% set ns = namespace(x=messages[0].content) %}{% if ns.x == 'grow' %}{% for i in range(60) %}\
                    {% set ns.x = ns.x ~ ns.x %}{% endfor %}{% endif %}{{ ns.x }}";
    let chat = ChatTemplate::new(template, &tokenizer).unwrap();
    assert_eq!(chat.render(&[Message::user("stay")], true, None).unwrap(), "stay");
    let error = chat.render(&[Message::user("grow")], true, None).unwrap_err();
    assert!(error.what().contains("MiB of memory"), "{error}");
    assert_eq!(chat.render(&[Message::user("stay")], true, None).unwrap(), "stay");
}

#[test]
fn tokenizers_that_multiply_a_text_are_refused() {
    let row = |part: Value| json!({"type": "Sequence", "normalizers": vec![part; 33]});
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    for normalizer in [row(double.clone()), row(json!({"type": "Sequence", "normalizers": [double, {"type": "NFKC"}]}))]
    {
        let (_folder, seen) = inspect("", |json| {
            json["normalizer"] = normalizer.clone();
            // Such a token is normalised while the file is read.
            json["added_tokens"][0]["normalized"] = json!(true);
        });
        let error = seen.unwrap_err();
        assert!(error.place().contains("tokenizer.json") && error.what().contains("times as long"), "{error}");
    }
}

/// The merges of a text then came by chance: 59 to 73 tokens for one prompt.
#[test]
fn dropout_is_not_obeyed_and_said() {
    let (folder, seen) = inspect("", |json| json["model"]["dropout"] = json!(0.5));
    assert!(seen.unwrap().iter().any(|note| note.contains("dropout of 0.5")), "it is said");
    let tokenizer = Tokenizer::from_folder(&folder.path().join("model")).unwrap();
    let text = "Yes No Yes No Yes No Yes No Yes No";
    let first = tokenizer.encode(text, false).unwrap();
    assert!((0..20).all(|_| tokenizer.encode(text, false).unwrap() == first));
    assert_eq!(tokenizer.single_token("Yes").is_ok(), (0..20).all(|_| tokenizer.single_token("Yes").is_ok()));
}

#[test]
fn a_vocabulary_of_one_id_is_refused() {
    let (_folder, seen) = inspect("", |json| {
        json["model"]["vocab"].as_object_mut().unwrap().values_mut().for_each(|id| *id = json!(0));
    });
    let error = seen.unwrap_err();
    assert!(error.what().contains("have the id 0"), "{error}");
}
