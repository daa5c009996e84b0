use proptest::prelude::*;

use super::*;

fn ours() -> Identity {
    Identity {
        node: "sidecar~10.0.0.1~pod.ns~ns.svc".into(),
        fingerprint: 77,
    }
}

fn header(role: Role) -> Header {
    Header {
        role,
        identity: ours(),
        world: 5,
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn kept(kind: Kind, name: &str, body: &[u8]) -> Record {
    Record {
        key: Key {
            kind,
            name: name.into(),
        },
        fate: Fate::Kept(Kept {
            version: "v".into(),
            origin: "ads".into(),
            body: Bytes::copy_from_slice(body),
        }),
    }
}

fn gone(kind: Kind, name: &str) -> Record {
    Record {
        key: Key {
            kind,
            name: name.into(),
        },
        fate: Fate::Gone,
    }
}

fn whole(records: &[Record]) -> Bytes {
    let mut file = encode_header(&header(Role::Whole));
    file.extend(encode_records(at(10), records));
    file.extend(encode_end(records.len() as u64));
    file.into()
}

fn changes(batches: &[Vec<Record>]) -> Bytes {
    let mut file = encode_header(&header(Role::Changes));
    for (index, batch) in batches.iter().enumerate() {
        file.extend(encode_records(at(20 + index as u64), batch));
    }
    file.into()
}

fn any_record() -> impl Strategy<Value = Record> {
    let fate = prop_oneof![
        (
            "[a-z0-9]{0,6}",
            "[a-z]{0,6}",
            prop::collection::vec(any::<u8>(), 0..60)
        )
            .prop_map(|(version, origin, body)| Fate::Kept(Kept {
                version: version.as_str().into(),
                origin: origin.as_str().into(),
                body: body.into(),
            })),
        Just(Fate::Withheld),
        Just(Fate::Gone),
    ];
    (0..Kind::ALL.len(), "\\PC{0,8}", fate).prop_map(|(kind, name, fate)| Record {
        key: Key {
            kind: Kind::ALL[kind],
            name: name.as_str().into(),
        },
        fate,
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(records in prop::collection::vec(any_record(), 0..12)) {
        let read = decode(&whole(&records)).unwrap();
        prop_assert_eq!(&read.records, &records);
        prop_assert_eq!((read.header, read.saved), (header(Role::Whole), at(10)));
        let sizes: u64 = records.iter().map(size_of).sum();
        let empty = whole(&[]).len() as u64;
        prop_assert_eq!(whole(&records).len() as u64, empty + sizes);
    }

    #[test]
    fn one_changed_byte_is_noticed(
        records in prop::collection::vec(any_record(), 0..6),
        in_changes in any::<bool>(),
        place in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let file = if in_changes { changes(&[records]) } else { whole(&records) };
        let mut bytes = file.to_vec();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        prop_assert!(decode(&bytes.into()).is_err(), "byte {}", place);
    }

    #[test]
    fn a_whole_that_is_cut_is_refused_and_changes_count_up_to_the_cut(
        batches in prop::collection::vec(prop::collection::vec(any_record(), 1..4), 1..4),
        place in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Record> = batches.concat();
        let file = whole(&all);
        prop_assert!(decode(&file.slice(..place.index(file.len()))).is_err());
        let file = changes(&batches);
        let head = encode_header(&header(Role::Changes)).len();
        let cut = head + place.index(file.len() - head);
        let read = decode(&file.slice(..cut)).unwrap();
        prop_assert_eq!(&read.records[..], &all[..read.records.len()]);
        let counted: usize = encode_header(&header(Role::Changes)).len()
            + batches.iter().scan(0, |seen, batch| {
                *seen += batch.len();
                (*seen <= read.records.len()).then(|| encode_records(at(0), batch).len())
            }).sum::<usize>();
        prop_assert_eq!(counted + read.cut_off, cut);
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), ours in any::<bool>()) {
        let mut file = if ours { encode_header(&header(Role::Whole)) } else { Vec::new() };
        file.extend(bytes);
        prop_assert!(decode(&file.into()).is_err());
    }
}

#[test]
fn the_newest_word_on_a_resource_counts() {
    let base = whole(&[
        kept(Kind::Cluster, "a", b"1"),
        kept(Kind::Cluster, "b", b"1"),
        kept(Kind::Endpoints, "a", b"1"),
    ]);
    let withheld = Record {
        fate: Fate::Withheld,
        ..kept(Kind::Listener, "l", b"")
    };
    let later = changes(&[
        vec![kept(Kind::Cluster, "a", b"2"), gone(Kind::Cluster, "b"), withheld],
        vec![kept(Kind::Secret, "s", b"3"), gone(Kind::Endpoints, "none")],
    ]);
    let read = |later: Option<Bytes>| {
        let later = later.map(|later| decode(&later).unwrap());
        Store::new(decode(&base).unwrap(), later, &ours()).unwrap()
    };
    let store = read(Some(later));
    let body = |kind, name: &str| {
        store
            .resources
            .get(&(kind, name.into()))
            .map(|kept| &kept.body[..])
    };
    assert_eq!(body(Kind::Cluster, "a"), Some(&b"2"[..]));
    assert_eq!(body(Kind::Cluster, "b"), None);
    assert_eq!(body(Kind::Endpoints, "a"), Some(&b"1"[..]));
    assert_eq!(body(Kind::Secret, "s"), Some(&b"3"[..]));
    assert_eq!((store.withheld.len(), store.saved), (1, at(21)));
    // What was appended to an older whole says nothing about this one.
    let mut other = encode_header(&Header {
        world: 6,
        ..header(Role::Changes)
    });
    other.extend(encode_records(at(99), &[gone(Kind::Cluster, "a")]));
    let store = read(Some(other.into()));
    assert_eq!((store.resources.len(), store.saved), (3, at(10)));
}

#[test]
fn what_is_not_ours_is_refused_by_name() {
    let file = whole(&[kept(Kind::Cluster, "a", b"1")]);
    let read = |identity: Identity| Store::new(decode(&file).unwrap(), None, &identity).map(|_| ());
    assert_eq!(read(ours()), Ok(()));
    let node = Identity {
        node: "other".into(),
        ..ours()
    };
    let error = read(node).unwrap_err();
    assert!(
        matches!(&error, Refused::OtherNode { found, .. } if *found == ours().node),
        "{error}"
    );
    let bootstrap = Identity {
        fingerprint: 1,
        ..ours()
    };
    assert_eq!(read(bootstrap), Err(Refused::OtherBootstrap));
    let mut newer = file.to_vec();
    newer[MAGIC.len()] = 9;
    assert_eq!(decode(&newer.into()), Err(Refused::Newer(9)));
    assert_eq!(decode(&Bytes::from_static(b"{}")), Err(Refused::Foreign));
}

#[test]
fn a_header_of_an_older_format_is_refused_too() {
    let mut older = whole(&[]).to_vec();
    older[MAGIC.len()] = 0;
    assert!(matches!(decode(&older.into()), Err(Refused::Corrupt { .. })));
}
