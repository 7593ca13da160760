//! Chat templates as published, against what transformers writes.

use rallrec::store::fixture;
use rallrec::store::{ChatTemplate, Message, Tokenizer};
use serde_json::json;

const LLAMA_3_1: &str = r#"{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message + builtin tools #}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

const QWEN_2_5: &str = r#"{%- if tools %}
    {{- '<|im_start|>system\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"#;

const R1_DISTILL: &str = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}\
{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}\
{{bos_token}}{{ns.system_prompt}}\
{%- for message in messages %}\
{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}\
{%- if message['role'] == 'assistant' and message['content'] is not none %}\
{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}\
{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}\
{%- endfor -%}\
{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}\
{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}";

const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn template(source: &str) -> ChatTemplate {
    let settings = json!({"bos_token": {"content": "<|bos|>"}, "eos_token": "<|im_end|>"});
    let json = fixture::tokenizer_json(false).unwrap();
    ChatTemplate::new(source, &Tokenizer::from_json(json.as_bytes(), &settings).unwrap()).unwrap()
}

#[test]
fn llama_3_1_writes_the_given_date_and_never_todays() {
    let t = template(LLAMA_3_1);
    let messages = [Message::system(" Be kind. "), Message::user("Hi\n")];
    let want = |date: &str| {
        format!(
            "<|bos|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: {date}\n\n\
             Be kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        )
    };
    assert_eq!(t.render(&messages, true, None).unwrap(), want("26 Jul 2024"));
    assert_eq!(t.render(&messages, true, Some("2025-02-10")).unwrap(), want("10 Feb 2025"));
    assert!(t.render(&messages, true, Some("10.2.2025")).unwrap_err().to_string().contains("YYYY-MM-DD"));
    assert_eq!(t.after_answer().unwrap(), "<|eot_id|>");
}

#[test]
fn qwen_2_5_and_smollm2_put_their_own_system_turn_first() {
    let user = [Message::user("Hi")];
    assert_eq!(
        template(QWEN_2_5).render(&user, true, None).unwrap(),
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(
        template(SMOLLM2).render(&user, false, None).unwrap(),
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n"
    );
    let with = [Message::system("S"), Message::user("Hi"), Message::assistant("Yo")];
    assert_eq!(
        template(QWEN_2_5).render(&with, false, None).unwrap(),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n"
    );
    assert_eq!(template(SMOLLM2).after_answer().unwrap(), "<|im_end|>\n");
}

#[test]
fn r1_distill_drops_old_thoughts() {
    let messages =
        [Message::system("S"), Message::user("Q"), Message::assistant("<think>\nhm\n</think>A"), Message::user("R")];
    assert_eq!(
        template(R1_DISTILL).render(&messages, true, None).unwrap(),
        "<|bos|>S<｜User｜>Q<｜Assistant｜>A<｜end▁of▁sentence｜><｜User｜>R<｜Assistant｜><think>\n"
    );
}

#[test]
fn helpers_and_refusals() {
    let user = [Message::user("a<b>é")];
    let t = template("{{ messages[0] | tojson }}{{ strftime_now('%d/%m/%Y') }}");
    let want = "{\"role\": \"user\", \"content\": \"a<b>é\"}01/03/2024";
    assert_eq!(t.render(&user, false, Some("2024-03-01")).unwrap(), want);
    assert!(t.render(&user, false, None).is_err(), "no date given, none invented");
    let t =
        template("{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system turn is needed') }}{% endif %}");
    assert!(t.render(&user, false, None).unwrap_err().to_string().contains("a system turn is needed"));
    // trim_blocks and lstrip_blocks, and the last newline.
    assert_eq!(template("a\n  {% if true %}\nb\n  {% endif %}\nc\n").render(&user, false, None).unwrap(), "a\nb\nc");
    let json = fixture::tokenizer_json(false).unwrap();
    let tokenizer = Tokenizer::from_json(json.as_bytes(), &serde_json::Value::Null).unwrap();
    assert!(ChatTemplate::new("{% if %}", &tokenizer).unwrap_err().to_string().contains("line 1"));
    let fallback = ChatTemplate::chatml(&tokenizer).unwrap();
    assert!(fallback.is_fallback());
    assert_eq!(
        fallback.render(&user, true, None).unwrap(),
        "<|im_start|>user\na<b>é<|im_end|>\n<|im_start|>assistant\n"
    );
}
