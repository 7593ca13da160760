use rallrec::Silent;
use rallrec::data::{self, DataSettings, GraphEdges, Kind, Part, SplitSettings, leaks};

use crate::common::*;

#[test]
fn a_ready_made_split_stays_as_it_is() {
    let dir =
        folder(&[("train.txt", b"0 5 1 2 3 4\n1 0 1 2 3 4 5 6 7 8 9\n2\n"), ("test.txt", b"0 6\n1 10 11\n2 0\n")]);
    let all = DataSettings::new(Kind::LIGHTGCN, dir.path());
    let settings = DataSettings { split: SplitSettings::shares(0.8, 0.1), ..all.clone() };
    let dataset = open(&settings).expect("opens");
    assert_eq!((dataset.users.len(), dataset.items.len(), dataset.interactions.len()), (3, 12, 19));
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    // Where a share is asked for, a tenth of each user's training pairs, rounded down, is held out.
    assert_eq!((samples.split.train.len(), samples.split.valid.len(), samples.split.test.len()), (14, 1, 4));
    let mut test: Vec<(u32, u32)> = samples.part(Part::Test).iter().map(|s| (s.user.0, s.item.0)).collect();
    test.sort_unstable();
    assert_eq!(test, [(0, 6), (1, 10), (1, 11), (2, 0)]);
    let edges = data::graph_edges(&dataset, &samples, GraphEdges::TrainSplit);
    assert_eq!(edges.len(), 14);
    let inputs =
        leaks::Inputs { samples: &samples, edges: Some(&edges), selection: None, allowed: leaks::Allowed::default() };
    assert_eq!(leaks::check(inputs, &Silent).expect("no leak"), leaks::LeakReport::default());
    let seen = data::inspect(&dataset, &samples, &settings).expect("inspects");
    assert!(seen.note.contains("only the graph stages"));
    let all = data::build_samples(&dataset, &all).expect("samples");
    assert_eq!((all.split.train.len(), all.split.valid.len(), all.split.test.len()), (15, 0, 4));
}

#[test]
fn gowalla_has_the_published_counts() {
    let Some(path) = real("gowalla") else { return };
    let settings = DataSettings::new(Kind::LIGHTGCN, &path);
    let dataset = open(&settings).expect("opens");
    assert_eq!((dataset.users.len(), dataset.items.len(), dataset.interactions.len()), (29_858, 40_981, 1_027_370));
    let samples = data::build_samples(&dataset, &settings).expect("samples");
    assert_eq!((samples.split.train.len(), samples.split.test.len()), (810_128, 217_242));
    assert_eq!(data::sets::repeat_count(&dataset.interactions).rows, 0);
}
