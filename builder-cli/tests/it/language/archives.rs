//! Archives that ADD takes apart, and contexts that are one: what other tools write, and what is broken.

use std::fs;
use std::path::PathBuf;

use test_support::archive::{Member, Packing, pack, tar};
use test_support::tarball::Image;
use test_support::tools::{require, run};
use test_support::world::World;

use super::built;
use crate::world;

const PACKINGS: [Packing; 5] = [
    Packing::None,
    Packing::Gzip,
    Packing::Bzip2,
    Packing::Xz,
    Packing::Zstd,
];

/// Bytes that no packing makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What ADD makes of members in `/x`, over a stage that has `/x/old`: names, kinds and content.
fn unpacked(members: &[Member]) -> String {
    let world = world();
    world.write("context/old", "OLD");
    world.write("context/a.tar", tar(members));
    world.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY old /x/old\nADD a.tar /x/\n",
    );
    shown(&built(&world, "@/context"))
}

fn shown(image: &Image) -> String {
    let files = image.files();
    let show = |(path, entry): (&Vec<u8>, &test_support::flatten::Entry)| {
        let name = String::from_utf8_lossy(path.strip_prefix(b"/x/")?).into_owned();
        let content = match entry.kind {
            "file" => image.text(&format!("/x/{name}")),
            "symlink" => format!("-> {}", String::from_utf8_lossy(&entry.link)),
            kind => kind.to_owned(),
        };
        Some(format!("{name}={content}"))
    };
    let all: Vec<String> = files.iter().filter_map(show).collect();
    all.join(" ")
}

#[test]
fn hard_links_name_what_was_there_when_they_were_made() {
    let (file, link) = (Member::file, Member::hardlink);
    let fifo = Member {
        kind: tar::EntryType::Fifo,
        ..file("p", "")
    };
    for (members, expected) in [
        // Links, pipes and what else has no content, before and behind the name in the order of names.
        (
            vec![Member::symlink("zz", "there"), link("aa", "zz")],
            "aa=-> there old=OLD zz=-> there",
        ),
        (
            vec![Member::symlink("aa", "there"), link("zz", "aa")],
            "aa=-> there old=OLD zz=-> there",
        ),
        (
            vec![fifo.clone(), link("a", "p"), link("q", "p")],
            "a=fifo old=OLD p=fifo q=fifo",
        ),
        // `tar -r`: a newer member of the same name.
        (
            vec![file("a", "1"), link("b", "a"), file("a", "2")],
            "a=2 b=1 old=OLD",
        ),
        (
            vec![
                file("a", "1"),
                link("b", "a"),
                link("c", "b"),
                file("a", "2"),
                link("d", "a"),
                file("a", "3"),
            ],
            "a=3 b=1 c=1 d=2 old=OLD",
        ),
        (
            vec![file("b", "1"), link("a", "b"), Member::symlink("b", "a")],
            "a=1 b=-> a old=OLD",
        ),
        (
            vec![file("b", "1"), link("c", "b"), link("b", "c")],
            "b=1 c=1 old=OLD",
        ),
        // The stage's own.
        (vec![link("m", "old")], "m=OLD old=OLD"),
        (
            vec![link("d/m", "old"), link("n", "d/m")],
            "d=dir d/m=OLD n=OLD old=OLD",
        ),
        (vec![link("m", "old"), file("old", "new")], "m=OLD old=new"),
        // Through a link of the archive.
        (
            vec![
                Member::directory("usr"),
                Member::symlink("lib", "usr"),
                file("usr/f", "f"),
                link("g", "lib/f"),
            ],
            "g=f lib=-> usr old=OLD usr=dir usr/f=f",
        ),
        (
            vec![
                Member::directory("d"),
                Member::symlink("d/up", "../e"),
                file("e/f", "f"),
                link("g", "d/up/f"),
            ],
            "d=dir d/up=-> ../e e=dir e/f=f g=f old=OLD",
        ),
        // Names of the directory itself.
        (
            vec![
                file("", "x"),
                file(".", "y"),
                Member::directory("./"),
                file("ok", "ok"),
            ],
            "ok=ok old=OLD",
        ),
    ] {
        assert_eq!(unpacked(&members), expected);
    }
}

#[test]
fn a_hard_link_to_nothing_is_an_error_that_says_where_it_was_looked_for() {
    let world = world();
    world.write("context/old", "OLD");
    let members = [
        Member::hardlink("m", "old"),
        Member::hardlink("n", "../../etc/passwd"),
    ];
    for (member, file, words) in [
        (
            &members[0],
            "FROM scratch\nADD a.tar /x/\n",
            "nor in the stage",
        ),
        (
            &members[0],
            "FROM scratch\nCOPY old /x/\nADD --link a.tar /x/\n",
            "nor in the stage",
        ),
        (
            &members[0],
            "FROM scratch\nCOPY old /y/\nADD a.tar /x/\n",
            "nor in the stage",
        ),
        (&members[1], "FROM scratch\nADD a.tar /x/\n", "leads out"),
    ] {
        world.write("context/a.tar", tar(std::slice::from_ref(member)));
        world.write("context/Dockerfile", file);
        world
            .line("-t a @/context")
            .exits(4)
            .says(words)
            .says("Dockerfile:");
    }
    // A context has nothing below it.
    let context = [
        Member::file("Dockerfile", "FROM scratch\nCOPY . /\n"),
        members[0].clone(),
    ];
    world
        .line_with_input("-t a -", tar(&context))
        .exits(4)
        .says("hard link");
}

#[test]
fn a_tar_context_has_links_of_every_kind() {
    let world = world();
    let members = [
        Member::file("Dockerfile", "FROM scratch\nCOPY d /x\n"),
        Member::file("d/a", "1"),
        Member::hardlink("d/b", "d/a"),
        Member::file("d/a", "2"),
        Member::symlink("d/zz", "there"),
        Member::hardlink("d/aa", "d/zz"),
    ];
    world.line_with_input("-t a -", tar(&members)).exits(0);
    let image = Image::open(&world.path("out/a.tar"));
    assert_eq!(shown(&image), "a=2 aa=-> there b=1 zz=-> there");
}

#[test]
fn a_broken_archive_is_never_copied_as_a_file() {
    let world = world();
    let members = [Member {
        content: noise(60_000),
        ..Member::file("f", "")
    }];
    world.write("context/Dockerfile", "FROM scratch\nADD s.bin /x/\n");
    for packing in &PACKINGS[1..] {
        let whole = pack(*packing, &tar(&members));
        for length in [200, 3_000, 30_000, whole.len() - 9] {
            world.write("context/s.bin", &whole[..length]);
            let outcome = world.line("-t a @/context").exits(4);
            let at = format!("ends early at byte {length}");
            assert!(
                outcome.stderr.contains(&at),
                "{packing:?} {length}: {}",
                outcome.stderr
            );
            outcome.says("s.bin").says("--unpack=false");
        }
        if *packing == Packing::Zstd {
            // It has no checksum here.
            continue;
        }
        // One bit in the middle of what is stored, and one of the checksum.
        for place in [whole.len() / 2, whole.len() - 12] {
            let mut wrong = whole.clone();
            wrong[place] ^= 4;
            world.write("context/s.bin", &wrong);
            let outcome = world.line("-t a @/context");
            assert_ne!(outcome.status, 0, "{packing:?} {place}");
            let told = ["wrong checksum", "damaged", "ends early"];
            assert!(
                told.iter().any(|words| outcome.stderr.contains(words)),
                "{}",
                outcome.stderr
            );
        }
    }
    // The flag takes the file as it is, and what is no archive is a file in any case.
    let half = pack(Packing::Gzip, &tar(&members))[..3_000].to_vec();
    world.write("context/s.bin", &half);
    for (line, content) in [
        ("ADD --unpack=false s.bin /x/", half.clone()),
        ("COPY s.bin /x/", half),
    ] {
        world.write("context/Dockerfile", format!("FROM scratch\n{line}\n"));
        let image = built(&world, "@/context");
        assert_eq!(image.files()[&b"/x/s.bin"[..]].content, content, "{line}");
    }
    world.write("context/Dockerfile", "FROM scratch\nADD s.bin /x/\n");
    for content in [
        &b"BZh and more"[..],
        b"\x1f\x8b\x08\xff",
        &pack(Packing::Zstd, b"no tar"),
        b"",
    ] {
        world.write("context/s.bin", content);
        let image = built(&world, "@/context");
        assert_eq!(image.files()[&b"/x/s.bin"[..]].content, content);
    }
}

#[test]
fn padding_behind_a_stream_is_no_part_of_it() {
    let world = world();
    world.write("context/Dockerfile", "FROM scratch\nADD s.bin /x/\n");
    let (one, two) = (tar(&[Member::file("a", "a")]), noise(700));
    for packing in PACKINGS {
        let whole = pack(packing, &one);
        let halves = [pack(packing, &one[..700]), pack(packing, &one[700..])].concat();
        for (what, bytes) in [
            ("zeros", [&whole[..], &[0; 4_000]].concat()),
            ("noise", [&whole[..], &two].concat()),
            ("pieces", halves.clone()),
            ("pieces and zeros", [&halves[..], &[0; 512]].concat()),
        ] {
            world.write("context/s.bin", bytes);
            assert_eq!(
                shown(&built(&world, "@/context")),
                "a=a",
                "{packing:?} {what}"
            );
        }
    }
}

/// A sparse file of 2 MiB with a few bytes at 0, at 1,500,000 and at the end, and many small pieces.
fn sparse_file(world: &World) -> (PathBuf, Vec<u8>) {
    let mut content = vec![0; 2 << 20];
    for place in [0, 1_500_000, (2 << 20) - 3] {
        content[place..place + 3].copy_from_slice(b"abc");
    }
    for place in (8_192..800_000).step_by(16_384) {
        content[place] = 1;
    }
    let path = world.write("sparse/sp", "");
    let file = fs::File::create(&path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (number, page) in content.chunks(4_096).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, page, number as u64 * 4_096).unwrap();
        }
    }
    (path, content)
}

#[test]
fn sparse_files_arrive_whole() {
    let Some(tar) = require("tar") else { return };
    let world = world();
    let (_, content) = sparse_file(&world);
    world.write("sparse/after", "after");
    world.write("context/Dockerfile", "FROM scratch\nADD s.tar /x/\n");
    let to = world.path("context/s.tar");
    for form in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let place = world.path("sparse");
        let words = [
            "-S",
            "-C",
            place.to_str().unwrap(),
            "-cf",
            to.to_str().unwrap(),
            "sp",
            "after",
        ];
        run(&tar, &[form, &words].concat());
        assert!(
            fs::metadata(&to).unwrap().len() < 1 << 20,
            "{form:?}: not sparse"
        );
        let image = built(&world, "@/context");
        assert!(image.files()[&b"/x/sp"[..]].content == content, "{form:?}");
        assert_eq!(image.text("/x/after"), "after", "{form:?}");
        // Cut in the middle of the pieces.
        let whole = fs::read(&to).unwrap();
        world.write("context/s.tar", &whole[..whole.len() / 2]);
        world.line("-t a @/context").exits(4).says("ends early");
    }
}
