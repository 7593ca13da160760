//! Machine code as `nvdisasm` prints it: functions, instructions with their source lines, loops.

use std::path::Path;
use std::process::{Command, Stdio};

use super::compile::disassembler;
use crate::error::{Error, Result};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its address within the function.
    pub at: u32,
    /// The predicate in front, `@!P0`; empty without one.
    pub predicate: String,
    /// Operation with its qualifiers, `LDG.E.128`.
    pub operation: String,
    /// What stands behind.
    pub operands: String,
    /// Source file and line that it comes from; the file's last two parts.
    pub source: Option<(String, u32)>,
}

impl Instruction {
    /// The operation without qualifiers.
    pub fn name(&self) -> &str {
        self.operation.split('.').next().unwrap_or_default()
    }

    /// Whether a qualifier is there.
    pub fn has(&self, qualifier: &str) -> bool {
        self.operation.split('.').skip(1).any(|q| q == qualifier)
    }

    /// Bytes that a thread moves, of an instruction that loads or stores.
    pub fn bytes(&self) -> u32 {
        for (qualifier, bytes) in [("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)] {
            if self.has(qualifier) {
                return bytes;
            }
        }
        4
    }
}

/// A kernel's machine code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The kernel.
    pub name: String,
    /// In the order of their addresses.
    pub code: Vec<Instruction>,
    /// First and last instruction of each loop, by the branch that goes back.
    pub loops: Vec<(usize, usize)>,
    /// Branches that go forward: from where to where.
    pub jumps: Vec<(usize, usize)>,
}

fn last_two(path: &str) -> String {
    let parts: Vec<&str> = path.rsplit('/').take(2).collect();
    match parts.as_slice() {
        [name, "common"] => format!("common/{name}"),
        [name, ..] => (*name).to_owned(),
        [] => String::new(),
    }
}

fn instruction(line: &str, source: &Option<(String, u32)>) -> Option<Instruction> {
    let (at, rest) = line.trim_start().strip_prefix("/*")?.split_once("*/")?;
    let at = u32::from_str_radix(at, 16).ok()?;
    let text = rest.split(';').next()?.trim();
    let (predicate, text) = match text.strip_prefix('@') {
        Some(_) => text.split_once(' ').map(|(p, t)| (p, t.trim_start()))?,
        None => ("", text),
    };
    let (operation, operands) = text.split_once(' ').unwrap_or((text, ""));
    Some(Instruction {
        at,
        predicate: predicate.to_owned(),
        operation: operation.to_owned(),
        operands: operands.trim().to_owned(),
        source: source.clone(),
    })
}

/// Functions in the text of `nvdisasm -c -g`.
pub fn parse(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut labels: Vec<(String, usize)> = Vec::new();
    let mut source = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|l| l.strip_suffix(':')) {
            finish(functions.last_mut(), &labels);
            labels.clear();
            source = None;
            functions.push(Function { name: name.to_owned(), code: Vec::new(), loops: Vec::new(), jumps: Vec::new() });
            continue;
        }
        let Some(function) = functions.last_mut() else { continue };
        let words = line.trim();
        if let Some(rest) = words.strip_prefix("//## File \"") {
            source = rest.split_once("\", line ").and_then(|(file, line)| {
                let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok().map(|line| (last_two(file), line))
            });
        } else if let Some(label) = words.strip_suffix(':').filter(|l| l.starts_with(".L_")) {
            labels.push((label.to_owned(), function.code.len()));
        } else if let Some(found) = instruction(line, &source) {
            function.code.push(found);
        }
    }
    finish(functions.last_mut(), &labels);
    functions
}

/// Finds the loops of a function that was read whole.
fn finish(function: Option<&mut Function>, labels: &[(String, usize)]) {
    let Some(function) = function else { return };
    for (at, code) in function.code.iter().enumerate().filter(|(_, code)| code.name() == "BRA") {
        let Some((_, label)) = code.operands.rsplit_once('(') else { continue };
        let target = labels.iter().find(|(name, _)| *name == label.trim_end_matches(')')).map(|(_, to)| *to);
        // What follows the end of a function is padding that branches to itself; and where an end
        // lies between, a rare case stands behind it and goes back.
        let ends = |to: usize| {
            function.code[to..at].iter().any(|i| matches!(i.name(), "EXIT" | "RET") && i.predicate.is_empty())
        };
        if let Some(target) = target.filter(|to| *to < at && !ends(*to)) {
            function.loops.push((target, at));
        } else if let Some(target) = target.filter(|to| *to > at) {
            function.jumps.push((at, target));
        }
    }
}

/// The kernels of a compiled file.
///
/// # Errors
/// No nvdisasm on this machine; a file that it cannot read.
pub fn of_file(path: &Path) -> Result<Vec<Function>> {
    let program = disassembler().ok_or_else(|| {
        Error::failed("machine code", "there is no nvdisasm to read it with")
            .next("scripts/nvcc-venv fetches one: set RALLREC_CUDA_VENV to its folder")
    })?;
    let mut command = Command::new(&program);
    let out = command.args(["-c", "-g"]).arg(path).stdin(Stdio::null()).output();
    let out = out.map_err(|e| Error::io(&program, "run", &e))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(Error::input(path.display(), format!("nvdisasm cannot read it: {said}")));
    }
    Ok(parse(&String::from_utf8_lossy(&out.stdout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
\t.section\t.text.one,\"ax\",@progbits
one:
.text.one:
\t//## File \"/x/kernels/one.cu\", line 7
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_0:
\t//## File \"/x/kernels/common/tile.cuh\", line 12 inlined at \"/x/kernels/one.cu\"
        /*0010*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/              @!P0 FFMA R4, R4.reuse, R5, R6 ;
        /*0030*/               @P1 BRA `(.L_x_0) ;
        /*0040*/                   EXIT ;
.L_x_1:
        /*0050*/                   BRA `(.L_x_1);
.text.two:
        /*0000*/                   EXIT ;
";

    #[test]
    fn functions_instructions_lines_and_loops_are_read() {
        let functions = parse(TEXT);
        assert_eq!(functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        let one = &functions[0];
        assert_eq!((one.code.len(), one.loops.as_slice()), (6, &[(1, 3)][..]), "the padding is no loop");
        let load = &one.code[1];
        assert_eq!((load.name(), load.bytes(), load.source.clone()), ("LDG", 16, Some(("common/tile.cuh".into(), 12))));
        assert_eq!((one.code[2].predicate.as_str(), one.code[2].name()), ("@!P0", "FFMA"));
        assert_eq!(functions[1].loops, []);
    }
}
