//! `rallrec llm logits | embed | generate`: a language model asked directly, outside of any run.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use comfy_table::CellAlignment;
use serde::Serialize;

use super::output::{self, Interruptible};
use crate::config::Pooling;
use crate::error::{Error, Result};
use crate::generate::{self, Finish, Listener};
use crate::models::decoder::{Arithmetic, Model};
use crate::ops::cross_entropy::Choice;
use crate::pipeline::progress::short;
use crate::store::chat::{ChatTemplate, Message};
use crate::store::tokenizer::{TextStream, Tokenizer};
use crate::store::{self, LoadOptions, builtin, hub, peft};
use crate::tensor::Dtype;
use crate::terminal;

/// Ask a language model directly: next-token logits, an embedding, or generated text.
#[derive(clap::Args)]
pub struct LlmArgs {
    #[command(subcommand)]
    command: Command,
}

impl LlmArgs {
    /// A text is written token by token, and a stop ends it between two; other commands read once.
    pub fn hears_stops(&self) -> bool {
        matches!(self.command, Command::Generate { .. })
    }
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print what the model would say next: the likeliest tokens, and how it stands between two
    /// answers.
    #[command(after_help = "Example: rallrec llm logits --model smollm2-135m --chat --prompt 'Is water wet?' \
                            --answers Yes,No")]
    Logits {
        #[command(flatten)]
        input: Input,
        /// How many of the likeliest tokens to print.
        #[arg(long, default_value_t = 10, value_name = "N")]
        top: usize,
        /// Two answers, each one token: prints the probability of the first against the second, and
        /// the probability that both hold together (the mass).
        #[arg(long, value_name = "A,B")]
        answers: Option<String>,
    },
    /// Print the text's vector: the final normed hidden state, pooled over the tokens.
    #[command(after_help = "Example: rallrec llm embed --model smollm2-135m --prompt 'Toy Story (1995)' --json")]
    Embed {
        #[command(flatten)]
        input: Input,
        /// How hidden states become one vector.
        #[arg(long, default_value = "mean", value_parser = pooling())]
        pooling: Pooling,
    },
    /// Write on from the prompt.
    #[command(after_help = "Example: rallrec llm generate --model smollm2-135m --chat --prompt 'Name three films.'")]
    Generate {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        sampling: Sampling,
    },
}

#[derive(clap::Args)]
struct Input {
    /// Model folder, GGUF file, name of a pulled model, or `builtin`.
    #[arg(long, value_name = "PATH")]
    model: String,
    /// PEFT folder with a LoRA adapter for this model.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The prompt.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file", required_unless_present = "prompt_file")]
    prompt: Option<String>,
    /// Read the prompt from a file (UTF-8, taken as it is); `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Put the prompt as the user's turn into the model's chat template.
    #[arg(long)]
    chat: bool,
    /// A system turn in front (with --chat).
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Storage of the weights in memory (default: as stored, quantised files too).
    #[arg(long, value_parser = dtype())]
    dtype: Option<Dtype>,
    /// Products with the weights in f32, in bf16 (faster with AVX512-BF16, most of all with AMX,
    /// about 0.3 % off), or in 8 bits (faster, about 1 % off).
    #[arg(long, value_parser = arithmetic(), default_value = "f32")]
    arithmetic: Arithmetic,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Sampling {
    /// How many answers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "S")]
    samples: u32,
    /// 0 always takes the likeliest token; 1 samples from the model's own distribution.
    #[arg(long, default_value_t = 0.6, allow_negative_numbers = true)]
    temperature: f32,
    /// Keep the likeliest tokens that hold this share of the probability; 1 keeps all.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Most new tokens of an answer.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Fewest new tokens of an answer.
    #[arg(long, default_value_t = 0)]
    min_tokens: usize,
    /// Seed of the draws: the same seed gives the same answers.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

fn dtype() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(["f32", "bf16", "f16"]).map(|word| match word.as_str() {
        "f32" => Dtype::F32,
        "f16" => Dtype::F16,
        _ => Dtype::Bf16,
    })
}

fn arithmetic() -> impl TypedValueParser<Value = Arithmetic> {
    PossibleValuesParser::new(["f32", "bf16", "int8"]).map(|word| match word.as_str() {
        "int8" => Arithmetic::Int8,
        "bf16" => Arithmetic::Bf16,
        _ => Arithmetic::F32,
    })
}

fn pooling() -> impl TypedValueParser<Value = Pooling> {
    PossibleValuesParser::new(["mean", "last"]).map(|word| if word == "last" { Pooling::Last } else { Pooling::Mean })
}

pub fn main(args: LlmArgs) -> Result<()> {
    // On a thread of the pool, as in a run: a decoding step is hundreds of short parallel regions.
    rayon::scope(|_| match args.command {
        Command::Logits { input, top, answers } => logits(&input, top, answers.as_deref()),
        Command::Embed { input, pooling } => embed(&input, pooling),
        Command::Generate { input, sampling } => write(&input, &sampling),
    })
}

/// A model and the prompt's tokens.
struct Asked {
    model: Model,
    tokenizer: Tokenizer,
    stop: Vec<u32>,
    tokens: Vec<u32>,
}

impl Input {
    /// Reads the prompt first: a wrong one should not cost the time of loading a model.
    fn load(&self, room: usize) -> Result<Asked> {
        let text = self.text()?;
        let options = LoadOptions { dtype: self.dtype };
        let loaded = match self.model.as_str() {
            builtin::NAME => builtin::load(&options)?,
            spec => store::load(&hub::resolve(spec)?, &options)?,
        };
        let tokenizer = loaded.tokenizer;
        let mut stop = loaded.config.eos.clone();
        stop.extend(tokenizer.eos().filter(|id| !stop.contains(id)));
        let tokens = self.tokens(&tokenizer, &loaded.chat, &text)?;
        let context = loaded.config.context;
        if tokens.len() + room > context {
            let what = format!("{} tokens do not fit the model's context of {context}", tokens.len());
            return Err(Error::input(self.place(), what).next("shorten the prompt, or use a model with more context"));
        }
        let adapter = match &self.adapter {
            Some(folder) => Some(peft::read(folder, &loaded.config)?),
            None => None,
        };
        let model = Model::new(loaded.config, loaded.weights)?;
        let model = model.with_arithmetic(self.arithmetic)?.with_adapter(adapter.as_ref())?;
        Ok(Asked { model, tokenizer, stop, tokens })
    }

    fn place(&self) -> String {
        match &self.prompt_file {
            Some(path) => path.display().to_string(),
            None => "--prompt".into(),
        }
    }

    fn text(&self) -> Result<String> {
        let text = match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => read_text(path)?,
            (None, None) => String::new(),
        };
        if text.is_empty() {
            return Err(Error::usage(self.place(), "the prompt is empty").next("give some text to read"));
        }
        Ok(text)
    }

    fn tokens(&self, tokenizer: &Tokenizer, chat: &ChatTemplate, text: &str) -> Result<Vec<u32>> {
        let tokens = if self.chat {
            let mut messages: Vec<Message> = self.system.iter().map(Message::system).collect();
            messages.push(Message::user(text));
            tokenizer.encode(&chat.render(&messages, true, None)?, true)?
        } else {
            tokenizer.encode(text, true)?
        };
        if tokens.is_empty() {
            return Err(Error::input(self.place(), "the prompt has no tokens").next("give some text to read"));
        }
        Ok(tokens)
    }
}

fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io("standard input", "read", &e))?;
    } else {
        bytes = std::fs::read(path).map_err(|e| Error::io(path, "read the prompt", &e))?;
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
        Error::input(format!("{}, line {line}", path.display()), format!("is not UTF-8 at byte {at}"))
            .next("convert the file to UTF-8")
    })
}

#[derive(Serialize)]
struct Token {
    token: String,
    id: u32,
    logit: f32,
    probability: f64,
}

#[derive(Serialize)]
struct Answers {
    first: Token,
    second: Token,
    /// Probability of the first answer when only the two compete.
    two_way: f64,
    /// Probability of both together.
    mass: f64,
}

#[derive(Serialize)]
struct Logits {
    prompt_tokens: usize,
    top: Vec<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<Answers>,
}

fn logits(input: &Input, top: usize, answers: Option<&str>) -> Result<()> {
    let words = answers.map(|a| two_words(a)).transpose()?;
    let asked = input.load(0)?;
    let ids = match words {
        Some([a, b]) => Some([asked.tokenizer.single_token(a)?, asked.tokenizer.single_token(b)?]),
        None => None,
    };
    let logits = asked.model.last_logits(&[&asked.tokens])?;
    let row = logits.row(0);
    if let Some(at) = row.iter().position(|l| !l.is_finite()) {
        return Err(Error::failed("logits", format!("the logit of token {at} is {}", row[at]))
            .next("the weights may be damaged: `rallrec model inspect` shows the model; try --dtype f32"));
    }
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&l| (f64::from(l) - f64::from(largest)).exp()).sum();
    let log_sum_exp = f64::from(largest) + sum.ln();
    let token = |id: u32| -> Result<Token> {
        let logit = row[id as usize];
        let probability = (f64::from(logit) - log_sum_exp).exp();
        Ok(Token { token: asked.tokenizer.decode(&[id], false)?, id, logit, probability })
    };
    let mut order: Vec<u32> = (0..row.len() as u32).collect();
    order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
    let found = Logits {
        prompt_tokens: asked.tokens.len(),
        top: order.into_iter().take(top).map(token).collect::<Result<_>>()?,
        answers: match ids {
            Some([a, b]) => {
                let choice = Choice { logits: [row[a as usize], row[b as usize]], log_sum_exp };
                Some(Answers { first: token(a)?, second: token(b)?, two_way: choice.two_way(), mass: choice.mass() })
            }
            None => None,
        },
    };
    if input.json { output::json(&found) } else { output::text(&found.render()) }
}

fn two_words(answers: &str) -> Result<[&str; 2]> {
    match answers.split_once(',').map(|(a, b)| [a.trim(), b.trim()]) {
        Some([a, b]) if !a.is_empty() && !b.is_empty() && a != b && !b.contains(',') => Ok([a, b]),
        _ => Err(Error::usage("--answers", format!("'{answers}' is not two different words"))
            .next("write two words with a comma between, e.g. --answers Yes,No")),
    }
}

impl Logits {
    fn render(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["token", "id", "logit", "probability"]);
        for t in &self.top {
            table.add_row([
                format!("{:?}", t.token),
                t.id.to_string(),
                format!("{:.4}", t.logit),
                format!("{:.6}", t.probability),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut out = format!("{} prompt tokens\n\n{table}\n", self.prompt_tokens);
        if let Some(a) = &self.answers {
            out.push_str(&format!(
                "\n{:?} against {:?}: {:.6} (logits {:.4} and {:.4}); both together hold {:.6} of the probability\n",
                a.first.token, a.second.token, a.two_way, a.first.logit, a.second.logit, a.mass
            ));
        }
        out
    }
}

fn embed(input: &Input, pooling: Pooling) -> Result<()> {
    let asked = input.load(0)?;
    let pooling = match pooling {
        Pooling::Mean => generate::Pooling::Mean,
        Pooling::Last => generate::Pooling::Last,
    };
    let pooled = generate::embed(&asked.model, &[], &[&asked.tokens], pooling)?;
    let vector = pooled.row(0);
    if let Some(at) = vector.iter().position(|v| !v.is_finite()) {
        return Err(Error::failed("embedding", format!("value {at} is {}", vector[at]))
            .next("the weights may be damaged: `rallrec model inspect` shows the model; try --dtype f32"));
    }
    if input.json {
        return output::json(&vector);
    }
    let norm = vector.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let first: Vec<String> = vector.iter().take(8).map(|v| format!("{v:.4}")).collect();
    let (low, high) = vector.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
    output::text(&format!(
        "prompt tokens  {}\nvalues         {}\nnorm           {norm:.4}\nsmallest       {low:.4}\nlargest        \
         {high:.4}\nfirst          {}{}\n(--json prints all)\n",
        asked.tokens.len(),
        vector.len(),
        first.join(", "),
        if vector.len() > first.len() { ", ..." } else { "" }
    ))
}

#[derive(Serialize)]
struct Written {
    sample: u32,
    text: String,
    tokens: usize,
    finish: Finish,
}

#[derive(Serialize)]
struct Output {
    prompt_tokens: usize,
    samples: Vec<Written>,
}

/// Collects answers, shows the text of a single one while it grows, and notes when tokens came.
struct Screen<'a> {
    tokenizer: &'a Tokenizer,
    live: Option<TextStream<'a>>,
    done: Vec<Written>,
    tokens: usize,
    first: Option<Instant>,
    last: Instant,
}

impl Listener for Screen<'_> {
    fn token(&mut self, _: u32, _: u32, token: u32) -> Result<()> {
        self.last = Instant::now();
        self.first.get_or_insert(self.last);
        self.tokens += 1;
        if let Some(stream) = &mut self.live {
            let piece = stream.push(token)?;
            let mut out = std::io::stdout().lock();
            out.write_all(piece.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|e| Error::io("standard output", "write", &e))?;
        }
        Ok(())
    }

    fn finished(&mut self, sample: generate::Sample) -> Result<()> {
        let text = self.tokenizer.decode(&sample.tokens, true)?;
        let tokens = sample.tokens.len();
        self.done.push(Written { sample: sample.sample, text, tokens, finish: sample.finish });
        Ok(())
    }
}

fn write(input: &Input, sampling: &Sampling) -> Result<()> {
    let settings = generate::GenerateSettings {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_new_tokens: sampling.min_tokens,
        max_new_tokens: sampling.max_tokens,
        seed: sampling.seed,
        ..generate::GenerateSettings::default()
    };
    settings.check("llm generate")?;
    // One place must stay free for the first new token.
    let asked = input.load(1)?;
    let live = sampling.samples == 1 && !input.json && std::io::stdout().is_terminal();
    let started = Instant::now();
    let mut screen = Screen {
        tokenizer: &asked.tokenizer,
        live: live.then(|| asked.tokenizer.stream(true)),
        done: Vec::new(),
        tokens: 0,
        first: None,
        last: started,
    };
    let prompt = generate::Prompt::new(0, asked.tokens.clone(), sampling.samples);
    generate::generate(&asked.model, &[prompt], &asked.stop, &settings, &Interruptible("llm generate"), &mut screen)?;
    let Screen { mut done, tokens, first, last, .. } = screen;
    done.sort_by_key(|w| w.sample);
    let read = first.unwrap_or(last) - started;
    terminal::print_line(&speed(asked.tokens.len(), read.as_secs_f64(), tokens, (last - started - read).as_secs_f64()));
    if input.json {
        return output::json(&Output { prompt_tokens: asked.tokens.len(), samples: done });
    }
    if live {
        return output::text("\n");
    }
    let many = done.len() > 1;
    let mut text = String::new();
    for written in &done {
        if many {
            text.push_str(&format!("--- sample {} ({} tokens)\n", written.sample, written.tokens));
        }
        text.push_str(written.text.trim_end_matches('\n'));
        text.push('\n');
    }
    output::text(&text)
}

/// The first token comes with the reading of the prompt; the others count into the rate.
fn speed(prompt: usize, read: f64, tokens: usize, seconds: f64) -> String {
    let rate = |n: usize, s: f64| if n > 0 && s > 0.0 { short(n as f64 / s) } else { "-".into() };
    format!(
        "{prompt} prompt tokens in {read:.2} s ({} tokens/s); {tokens} new tokens, {} tokens/s",
        rate(prompt, read),
        rate(tokens.saturating_sub(1), seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_two_different_words() {
        assert_eq!(two_words("Yes, No").unwrap(), ["Yes", "No"]);
        for bad in ["", "Yes", "Yes,", ",No", "Yes,Yes", "a,b,c"] {
            assert_eq!(two_words(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn the_speed_of_nothing_is_a_dash() {
        assert_eq!(speed(4, 2.0, 1, 0.0), "4 prompt tokens in 2.00 s (2.00 tokens/s); 1 new tokens, - tokens/s");
        assert!(speed(4, 2.0, 11, 2.0).ends_with("11 new tokens, 5.00 tokens/s"));
    }
}
