//! The kernels' sources: those that the program was built of, and those of a folder that stand in
//! for them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// What no folder may have in another version: the program and its libraries share these types.
const SHARED: &str = "host/runtime/";

/// A file or a folder of kernels.
#[derive(Debug, Clone)]
pub struct Sources {
    /// What includes are looked for in.
    folder: PathBuf,
    files: Vec<PathBuf>,
}

/// A translation unit that is not as in the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The source's name without ending.
    pub name: String,
    /// The source.
    pub path: PathBuf,
    /// Every file that it is made of, in the order in which a compiler meets them: path as written,
    /// and text.
    pub files: Vec<(String, String)>,
}

fn built_in(name: &str) -> Option<&'static str> {
    SOURCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// `a/b/../c` as `a/c`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// The names in `#include "NAME"` lines.
fn includes(text: &str) -> impl Iterator<Item = &str> {
    let after = text.lines().filter_map(|line| line.trim_start().strip_prefix('#'));
    after
        .filter_map(|rest| rest.trim_start().strip_prefix("include")?.trim_start().strip_prefix('"')?.split('"').next())
}

/// Where a file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Folder,
    Program,
}

impl Sources {
    /// A folder with `.cu` files, or one such file.
    ///
    /// # Errors
    /// Nothing there; a folder without a `.cu` file.
    pub fn open(path: &Path) -> Result<Self> {
        let about = fs::metadata(path).map_err(|e| Error::io(path, "read", &e))?;
        let is_source = |p: &Path| p.extension().is_some_and(|e| e == "cu");
        if about.is_file() {
            if !is_source(path) {
                return Err(Error::usage("--kernels", format!("{} is no .cu file", path.display()))
                    .next("give a .cu file, or a folder of them"));
            }
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
            return Ok(Self { folder, files: vec![path.to_owned()] });
        }
        let entries = fs::read_dir(path).map_err(|e| Error::io(path, "read the folder", &e))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| is_source(p)).collect();
        files.sort();
        if files.is_empty() {
            return Err(Error::usage("--kernels", format!("there is no .cu file in {}", path.display()))
                .next("`rallrec kernels write FOLDER` writes the sources of this program to a new folder"));
        }
        Ok(Self { folder: path.to_owned(), files })
    }

    /// Where includes are looked for first.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file by its path below `kernels/`: the folder's, else the program's.
    fn find(&self, name: &str) -> Result<Option<(String, From)>> {
        let here = self.folder.join(name);
        if here.is_file() {
            let text = fs::read_to_string(&here).map_err(|e| Error::io(&here, "read", &e))?;
            return Ok(Some((text, From::Folder)));
        }
        Ok(built_in(name).map(|text| (text.to_owned(), From::Program)))
    }

    /// Everything that a file includes, itself first.
    fn closure(&self, name: &str, text: String, out: &mut Vec<(String, String)>) -> Result<()> {
        let folder = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let wanted: Vec<String> = includes(&text).map(str::to_owned).collect();
        out.push((name.to_owned(), text));
        for include in wanted {
            // As a compiler looks: beside the file, then from the top.
            for candidate in [plain(&format!("{folder}{include}")), plain(&include)] {
                if out.iter().any(|(known, _)| *known == candidate) {
                    break;
                }
                let Some((text, from)) = self.find(&candidate)? else { continue };
                if from == From::Folder && candidate.starts_with(SHARED) && built_in(&candidate) != Some(text.as_str())
                {
                    let place = self.folder.join(&candidate);
                    return Err(Error::usage(place.display(), "the runtime of the host build is not this program's")
                        .next("build the program again, or take the file as `rallrec kernels write` has it"));
                }
                self.closure(&candidate, text, out)?;
                break;
            }
        }
        Ok(())
    }

    /// The units that differ from the program's, in themselves or in what they include. Of those
    /// that the program has, only the ones in `wanted`.
    ///
    /// # Errors
    /// A file that cannot be read; another runtime of the host build.
    pub fn changed(&self, wanted: &[&str]) -> Result<Vec<Unit>> {
        self.units(wanted, true)
    }

    /// As [`Self::changed`], with the units that do not differ.
    ///
    /// # Errors
    /// As there.
    pub fn all(&self, wanted: &[&str]) -> Result<Vec<Unit>> {
        self.units(wanted, false)
    }

    fn units(&self, wanted: &[&str], only_changed: bool) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        let program = Sources { folder: PathBuf::from("/nonexistent/rallrec-kernels"), files: Vec::new() };
        for path in &self.files {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let file = format!("{name}.cu");
            let own = built_in(&file);
            if own.is_some() && !wanted.contains(&name.as_str()) {
                continue;
            }
            let text = fs::read_to_string(path).map_err(|e| Error::io(path, "read", &e))?;
            let mut files = Vec::new();
            self.closure(&file, text, &mut files)?;
            if let Some(own) = own.filter(|_| only_changed) {
                let mut built = Vec::new();
                program.closure(&file, own.to_owned(), &mut built)?;
                if files == built {
                    continue;
                }
            }
            units.push(Unit { name, path: path.clone(), files });
        }
        Ok(units)
    }
}

/// Writes the program's sources to a new folder, for `--kernels`.
///
/// # Errors
/// A folder that has something in it; a disk that fails.
pub fn write(folder: &Path) -> Result<usize> {
    let taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken || folder.is_file() {
        return Err(Error::usage(folder.display(), "is there and not empty").next("name a new folder"));
    }
    for (name, text) in SOURCES {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, "make the folder", &e))?;
        fs::write(&path, text).map_err(|e| Error::io(&path, "write", &e))?;
    }
    Ok(SOURCES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_as_written_has_no_changed_unit_and_an_edited_header_changes_its_users() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("k");
        assert!(write(&root).unwrap() > 30);
        assert!(write(&root).unwrap_err().to_string().contains("not empty"));
        let names = |wanted: &[&str]| {
            let units = Sources::open(&root).unwrap().changed(wanted).unwrap();
            units.into_iter().map(|u| u.name).collect::<Vec<_>>()
        };
        assert!(names(&["rmsnorm", "spmm", "topk"]).is_empty());
        let sort = root.join("common/sort.cuh");
        fs::write(&sort, format!("{}\n", fs::read_to_string(&sort).unwrap())).unwrap();
        assert_eq!(names(&["rmsnorm", "spmm", "topk"]), ["topk"], "best.cuh includes it");
        assert!(names(&["spmm"]).is_empty(), "nobody asks for top-K");
        fs::write(root.join("own.cu"), "#include \"common/base.cuh\"\n").unwrap();
        assert_eq!(names(&[]), ["own"], "a unit that the program does not have is always meant");
    }

    #[test]
    fn a_folder_needs_no_headers_and_may_not_bring_another_runtime() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(Sources::open(root).unwrap_err().next_step().contains("kernels write"));
        fs::write(root.join("spmm.cu"), "#include \"common/base.cuh\"\n").unwrap();
        let units = Sources::open(&root.join("spmm.cu")).unwrap().changed(&["spmm"]).unwrap();
        let names: Vec<&str> = units[0].files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["spmm.cu", "common/base.cuh", "host/runtime/cuda_host.h"]);
        fs::create_dir_all(root.join("common")).unwrap();
        fs::create_dir_all(root.join("host/runtime")).unwrap();
        fs::write(root.join("host/runtime/cuda_host.h"), "// another\n").unwrap();
        let error = Sources::open(root).unwrap().changed(&["spmm"]).unwrap_err();
        assert!(
            error.to_string().contains("cuda_host.h") && error.next_step().contains("build the program"),
            "{error}"
        );
    }

    #[test]
    fn includes_are_read_as_a_compiler_does() {
        let text = "#include \"a.h\"\n  # include \"b/c.h\" // why\n#include <vector>\n// #include \"no.h\"\n";
        assert_eq!(includes(text).collect::<Vec<_>>(), ["a.h", "b/c.h"]);
        assert_eq!(plain("common/../host/./x.h"), "host/x.h");
        assert_eq!(plain("../x.h"), "../x.h");
    }
}
