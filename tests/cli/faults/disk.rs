//! What a disk holds of a folder after each operation on it, if the power goes: of a file the bytes
//! of its last flush, of a folder the names of its last flush.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file or a folder, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Node {
    File(usize),
    Folder(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    now: Vec<u8>,
    flushed: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Folder {
    now: BTreeMap<String, Node>,
    flushed: BTreeMap<String, Node>,
}

/// One operation.
#[derive(Debug, Clone)]
enum Operation {
    Create(PathBuf),
    Folder(PathBuf),
    Write(PathBuf, usize, Vec<u8>),
    Cut(PathBuf, usize),
    Flush(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// What was done, in order.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    operations: Vec<Operation>,
}

/// Files by their names; folders end in a slash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State(BTreeMap<String, Option<Vec<u8>>>);

impl State {
    /// Makes files and folders below `root`.
    pub fn write(&self, root: &Path) {
        fs::create_dir_all(root).unwrap();
        for (name, bytes) in &self.0 {
            match bytes {
                Some(bytes) => fs::write(root.join(name), bytes).unwrap(),
                None => fs::create_dir_all(root.join(name)).unwrap(),
            }
        }
    }
}

impl Disk {
    /// Reads the log of the library on what is below `folder`, which was there before.
    pub fn read(log: &[u8], folder: &Path) -> Self {
        let within = |path: &str| Path::new(path).strip_prefix(folder).expect("below the folder").to_owned();
        let (mut operations, mut at) = (Vec::new(), 0);
        while at < log.len() {
            let end = at + log[at..].iter().position(|b| *b == b'\n').unwrap();
            let head = std::str::from_utf8(&log[at..end]).unwrap();
            let fields: Vec<&str> = head.split('\t').collect();
            let [word, offset, length, path, to] = fields[..] else { panic!("{head}") };
            let (offset, length): (usize, usize) = (offset.parse().unwrap(), length.parse().unwrap());
            let data = log[end + 1..end + 1 + length].to_vec();
            at = end + 1 + length;
            let path = within(path);
            operations.push(match word {
                "create" => Operation::Create(path),
                "mkdir" => Operation::Folder(path),
                "write" => Operation::Write(path, offset, data),
                "truncate" => Operation::Cut(path, offset),
                "sync" => Operation::Flush(path),
                "rename" => Operation::Rename(path, within(to)),
                "unlink" | "rmdir" => Operation::Remove(path),
                _ => panic!("{head}"),
            });
        }
        Self { operations }
    }

    /// What is left after a cut behind each operation, where that is another state than before.
    /// `named`: names reach the disk by themselves, bytes do not.
    pub fn cuts(&self, named: bool) -> Vec<(usize, State)> {
        let mut tree = Tree::default();
        tree.folders.push(Folder::default());
        let mut states: Vec<(usize, State)> = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            tree.apply(operation);
            let mut state = State::default();
            tree.left(0, "", named, &mut state);
            if states.last().is_none_or(|(_, last)| *last != state) {
                states.push((number + 1, state));
            }
        }
        states
    }
}

#[derive(Default)]
struct Tree {
    files: Vec<File>,
    folders: Vec<Folder>,
}

impl Tree {
    fn find(&self, path: &Path) -> Option<Node> {
        path.iter().try_fold(Node::Folder(0), |node, name| match node {
            Node::Folder(folder) => self.folders[folder].now.get(name.to_str()?).copied(),
            Node::File(_) => None,
        })
    }

    /// The folder of a path, and its name there.
    fn place(&mut self, path: &Path) -> (&mut Folder, String) {
        let parent = self.find(path.parent().unwrap());
        let Some(Node::Folder(parent)) = parent else { panic!("{}: no folder", path.display()) };
        (&mut self.folders[parent], path.file_name().unwrap().to_str().unwrap().to_owned())
    }

    fn file(&mut self, path: &Path) -> &mut File {
        let Some(Node::File(file)) = self.find(path) else { panic!("{}: no file", path.display()) };
        &mut self.files[file]
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(path) => {
                self.files.push(File::default());
                let node = Node::File(self.files.len() - 1);
                let (folder, name) = self.place(path);
                folder.now.insert(name, node);
            }
            Operation::Folder(path) => {
                self.folders.push(Folder::default());
                let node = Node::Folder(self.folders.len() - 1);
                let (folder, name) = self.place(path);
                folder.now.insert(name, node);
            }
            Operation::Write(path, offset, data) => {
                let file = self.file(path);
                let end = offset + data.len();
                file.now.resize(file.now.len().max(end), 0);
                file.now[*offset..end].copy_from_slice(data);
            }
            Operation::Cut(path, length) => self.file(path).now.resize(*length, 0),
            Operation::Flush(path) => match self.find(path) {
                Some(Node::File(file)) => self.files[file].flushed = self.files[file].now.clone(),
                Some(Node::Folder(folder)) => self.folders[folder].flushed = self.folders[folder].now.clone(),
                // A file that was renamed while it was open: it has another name by now.
                None => {}
            },
            Operation::Rename(from, to) => {
                let (folder, name) = self.place(from);
                let node = folder.now.remove(&name).unwrap();
                let (folder, name) = self.place(to);
                folder.now.insert(name, node);
            }
            Operation::Remove(path) => {
                let (folder, name) = self.place(path);
                folder.now.remove(&name);
            }
        }
    }

    fn left(&self, folder: usize, above: &str, named: bool, state: &mut State) {
        let folder = &self.folders[folder];
        for (name, node) in if named { &folder.now } else { &folder.flushed } {
            let name = format!("{above}{name}");
            match node {
                Node::File(file) => {
                    state.0.insert(name, Some(self.files[*file].flushed.clone()));
                }
                Node::Folder(folder) => {
                    state.0.insert(format!("{name}/"), None);
                    self.left(*folder, &format!("{name}/"), named, state);
                }
            }
        }
    }
}
