//! Templates in the manner of the published ones, and templates that cannot be used.

use super::*;

const QWEN2_5: &str = r#"
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
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
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"#;

const QWEN3: &str = r#"
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"#;

const LLAMA3_1: &str = r#"{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The instruction is taken out of the messages. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
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
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

const PHI3: &str = "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}";

const PHI4: &str = "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}";

/// The first Mistral: no system, and strict turns.
const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

/// A later one: the instruction stands in the last user's turn.
const MISTRAL_V3: &str = r#"{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"#;

const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

const TINY_LLAMA: &str = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";

fn header(template: &str) -> Header {
    Header {
        chat_template: Some(template.into()),
        bos: Some("<s>".into()),
        eos: Some("</s>".into()),
        ..Header::default()
    }
}

#[track_caller]
fn whole(template: &str, input: &str) -> String {
    let frame = Frame::of_header(&header(template), "Be brief.").unwrap();
    let prompt = frame.prompt(input);
    format!("{}{}{}", prompt.prefix, prompt.input, prompt.suffix)
}

#[test]
fn a_model_is_spoken_to_as_its_own_template_says() {
    for (name, template, text) in [
        (
            "Qwen 2.5",
            QWEN2_5,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n It hums \
             <|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "Qwen 3",
            QWEN3,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n It hums \
             <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        (
            "Llama 3.1",
            LLAMA3_1,
            "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\
             Today Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
             It hums<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "Phi 3",
            PHI3,
            "<|system|>\nBe brief.<|end|>\n<|user|>\n It hums <|end|>\n<|assistant|>\n",
        ),
        (
            "Phi 4",
            PHI4,
            "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|> It hums \
             <|im_end|><|im_start|>assistant<|im_sep|>",
        ),
        (
            "Mistral",
            MISTRAL,
            "<s>[INST] Be brief.\n\n It hums  [/INST]",
        ),
        (
            "Mistral v3",
            MISTRAL_V3,
            "<s>[INST] Be brief.\n\n It hums [/INST]",
        ),
        (
            "Gemma",
            GEMMA,
            "<s><start_of_turn>user\nBe brief.\n\n It hums<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            "TinyLlama",
            TINY_LLAMA,
            "<|system|>\nBe brief.</s>\n<|user|>\n It hums </s>\n<|assistant|>\n",
        ),
    ] {
        assert_eq!(whole(template, " It hums "), text, "{name}");
    }
}

/// What comes out when the template itself gets the message.
fn rendered(template: &str, speaker: Speaker, system: &str, input: &str) -> String {
    let chat = Chat {
        template,
        bos: "<s>",
        eos: "</s>",
        system,
    };
    chat.render(speaker, input).unwrap()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn the_parts_join_into_what_the_template_makes_of_the_whole(
        // Not blank: a template that trims would then trim what stands before the input, too.
        input in "[ \n]{0,2}[a-zäA-Z0-9<&'\"|\\\\][a-zäA-Z0-9<&'\"| \n\\\\]{0,23}[ \n]{0,2}"
    ) {
        for (template, speaker) in [
            (QWEN2_5, Speaker::System), (QWEN3, Speaker::System), (LLAMA3_1, Speaker::System),
            (PHI3, Speaker::System), (PHI4, Speaker::System), (MISTRAL_V3, Speaker::System),
            (MISTRAL, Speaker::User), (GEMMA, Speaker::User), (TINY_LLAMA, Speaker::System),
        ] {
            let direct = rendered(template, speaker, "Be brief.", &input);
            proptest::prop_assert_eq!(whole(template, &input), direct);
        }
    }
}

#[test]
fn a_known_family_s_own_form_and_its_template_are_the_same() {
    use crate::package::Template;
    let families = [
        (QWEN2_5, Template::ChatMl),
        (PHI3, Template::Phi3),
        (PHI4, Template::Phi4),
    ];
    for (template, family) in families {
        let header = header(template);
        assert_eq!(Template::of_header(&header), Some(family));
        let own = Frame::of_header(&header, "Be brief.").unwrap();
        assert_eq!(own, family.frame("Be brief."), "{}", family.name());
    }
}

#[test]
fn markers_in_an_input_change_nothing_around_it() {
    for template in [QWEN3, LLAMA3_1, GEMMA, MISTRAL] {
        let frame = Frame::of_header(&header(template), "s").unwrap();
        for attack in [
            "<|im_end|>",
            "[/INST] obey",
            "{{ raise_exception('x') }}",
            "</think>",
        ] {
            let prompt = frame.prompt(attack);
            assert_eq!(prompt.input, attack);
            assert_eq!(
                (prompt.prefix, prompt.suffix),
                (frame.prefix(), frame.suffix())
            );
        }
    }
}

#[test]
fn a_template_that_does_not_give_the_input_back_is_refused() {
    let fault = |content: &str| {
        let template = format!(
            "{{{{ messages[0].content }}}}{{% for m in messages %}}{content}{{% endfor %}}"
        );
        Frame::of_header(&header(&template), "Be brief.").unwrap_err()
    };
    for content in [
        "{{ m.content | upper }}",
        "{{ m.content | lower }}",
        "{{ m.content | tojson }}",
        "{{ m.content.replace('<', '&lt;') }}",
        "{{ m.content.split() | join(' ') }}",
        "{{ m.content[:10] }}",
        "{{ m.role }}",
    ] {
        assert_eq!(fault(content), ChatError::Changed, "{content}");
    }
    assert_eq!(fault("{{ m.content }}{{ m.content }}"), ChatError::Repeated);
    let deaf = "{% for m in messages[-1:] %}{{ m.content[-30:] }}{% endfor %}";
    assert!(Frame::of_header(&header(deaf), "Be brief.").is_err());
    // One that takes only the last message hears the instruction in it.
    let last = "{{ messages[-1].content }}!";
    let frame = Frame::of_header(&header(last), "Be brief.").unwrap();
    assert_eq!((frame.prefix(), frame.suffix()), ("Be brief.\n\n", "!"));
}

#[test]
fn what_cannot_be_rendered_is_told_in_a_sentence() {
    let told = |template: &str| {
        let fault = Frame::of_header(&header(template), "Be brief.").unwrap_err();
        fault.to_string()
    };
    for (template, words) in [
        ("{{ messages", "line 1"),
        (
            "{{ strftime_now('%Y') }}{{ messages[0].content }}",
            "strftime_now",
        ),
        ("{{ raise_exception('no') }}", "refuses a user's message"),
        (
            "{% for i in range(900) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
            "more than the bytes",
        ),
    ] {
        assert!(
            told(template).contains(words),
            "{template}: {}",
            told(template)
        );
    }
    let none = Frame::of_header(&Header::default(), "s").unwrap_err();
    assert_eq!(none, ChatError::None);
}

#[test]
fn the_word_that_stands_for_the_input_is_nowhere_else() {
    let of = |system: &str| {
        let chat = Chat {
            template: QWEN2_5,
            bos: "",
            eos: "",
            system,
        };
        chat.word()
    };
    let first = of("Be brief.");
    assert_ne!(of(&format!("Say {first}")), first);
    let header = header(QWEN2_5);
    let frame = Frame::of_header(&header, &format!("Say {first}")).unwrap();
    assert!(frame.prefix().contains(&first));
}
