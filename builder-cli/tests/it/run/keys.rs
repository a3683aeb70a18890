//! No RUN has the result of another: each variant of its inputs alone in a store, and then all in one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use test_support::tools::is_long;
use test_support::world::World;

use super::{Way, in_each_way, ways};

/// Lines that differ in one input, and say what they see of it. Where two of them see the same, that is right too.
const LINES: &[&str] = &[
    "RUN --mount=type=bind,source=d/0,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,source=d,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,source=d/0,target=/n ls -ld /n | cut -c1-10 > /r",
    "RUN --mount=type=bind,source=closed,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,source=open,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=files,source=closed,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=stage,source=closed,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=stage,source=open,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=stage,source=d/0,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=stage,source=d,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,from=stage,source=nothing,target=/m ls -ld /m | cut -c1-10 > /r",
    "RUN --mount=type=bind,source=d/0,target=/m echo x 2>&- > /m && cat /m > /r || echo no > /r",
    "RUN --mount=type=bind,source=d/0,target=/m,rw echo x 2>&- > /m && cat /m > /r || echo no > /r",
    "RUN --mount=type=cache,target=/c stat -c '%a %u %g' /c > /r",
    "RUN --mount=type=cache,target=/c,mode=700 stat -c '%a %u %g' /c > /r",
    "RUN --mount=type=cache,target=/c,uid=5 stat -c '%a %u %g' /c > /r",
    "RUN --mount=type=cache,target=/c,gid=5 stat -c '%a %u %g' /c > /r",
    "RUN --mount=type=cache,target=/f,from=files,source=d ls /f > /r",
    "RUN --mount=type=cache,target=/f,from=files,source=open ls /f > /r",
    "RUN --mount=type=cache,target=/f,from=stage,source=d ls /f > /r",
    "RUN --mount=type=tmpfs,target=/m ls -d /m /t > /r 2>&1; true",
    "RUN --mount=type=tmpfs,target=/t ls -d /m /t > /r 2>&1; true",
    "RUN --mount=type=secret,id=s stat -c '%a %u' /run/secrets/s > /r",
    "RUN --mount=type=secret,id=s,mode=444 stat -c '%a %u' /run/secrets/s > /r",
    "RUN --mount=type=secret,id=s,uid=5 stat -c '%a %u' /run/secrets/s > /r",
    "RUN --mount=type=secret,id=s,target=/s ls -d /s /run/secrets/s > /r 2>&1; true",
    "RUN --mount=type=secret,id=s,env=V env | cut -d= -f1 | sort > /r",
    "RUN --mount=type=secret,id=s,env=W env | cut -d= -f1 | sort > /r",
    "RUN --mount=type=secret,id=none ls /run/secrets > /r 2>&1; true",
    "RUN --mount=type=secret,id=none,required ls /run/secrets > /r 2>&1; true",
    "ENV A=1 B=2\nRUN env | grep '^[AB]=' > /r",
    "ENV B=2 A=1\nRUN env | grep '^[AB]=' > /r",
    "ENV A=1\nENV B=2\nRUN env | grep '^[AB]=' > /r",
    "ENV A=2 B=1\nRUN env | grep '^[AB]=' > /r",
    "ARG A=1\nARG B=2\nRUN env | grep '^[AB]=' > /r",
    "ARG A=1\nRUN env | grep '^[AB]=' > /r",
    "USER app\nRUN id > /tmp/r",
    "USER 1234\nRUN id > /tmp/r",
    "USER 1234:5\nRUN id > /tmp/r",
    "RUN id > /tmp/r",
    "WORKDIR /tmp\nRUN pwd > /tmp/r",
    "RUN pwd > /tmp/r",
    "RUN [\"sh\", \"-c\", \"echo $0 > /r\"]",
    "RUN [\"sh\", \"-c\", \"echo $0 > /r\", \"x\"]",
    "RUN echo $0 > /r",
    "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 $- > /r",
    "RUN echo $0 $- > /r",
    "RUN <<EOF\necho $0 > /r\nEOF",
    "RUN <<EOF sh -s\necho $0 > /r\nEOF",
    "RUN <<X\n#!/bin/sh\necho $0 > /r\nX",
    "RUN <<Y\n#!/bin/sh\necho $0 > /r\nY",
    "RUN <<X\n#!/bin/sh -e\necho $0 > /r\nX",
    "COPY d /\nRUN ls / > /r",
    "COPY open /\nRUN ls / > /r",
];

fn world_of(way: Way) -> World {
    let world = way.world();
    for folder in ["context", "files"] {
        world.write(format!("{folder}/d/0"), "0");
        for (name, mode) in [("closed", 0o700), ("open", 0o755)] {
            let path = world.write(format!("{folder}/{name}/f"), "f");
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(path.parent().unwrap(), mode).unwrap();
        }
    }
    world.write("secret", "secret");
    world
}

/// What a line gives in a store: the image, or the exit status.
fn build(way: Way, world: &World, line: &str, store: &str) -> String {
    let stage = if line.contains("from=stage") {
        "FROM scratch AS stage\nCOPY . /\n"
    } else {
        ""
    };
    let flags = format!(
        "--root @/{store} --source-date-epoch 1600000000 --build-context files=@/files --secret id=s,src=@/secret"
    );
    let dockerfile = format!("{stage}FROM bb\n{line}\n");
    // The file itself is in the context.
    world.write("context/.dockerignore", "Dockerfile\n");
    let _ = fs::remove_file(super::image_of(world));
    let outcome = way.start(world, &dockerfile, &flags).wait();
    match outcome.status {
        0 => test_support::tarball::Image::open(&super::image_of(world)).digest,
        status => format!("exit {status}"),
    }
}

#[test]
fn no_run_has_the_result_of_another() {
    let Some(first) = ways().first().copied() else {
        return;
    };
    // The key doesn't know the way.
    let check = |way: Way| {
        if way != first && !is_long() {
            return Vec::new();
        }
        let world = world_of(way);
        for store in ["one", "alone"] {
            fs::create_dir(world.path(store)).unwrap();
            test_support::world::set_mode(&world.path(store), 0o777);
        }
        let truth: Vec<String> = LINES
            .iter()
            .enumerate()
            .map(|(number, line)| build(way, &world, line, &format!("alone/{number}")))
            .collect();
        let refused = truth.iter().filter(|one| one.starts_with("exit")).count();
        let mut found = Vec::new();
        if refused != 2 {
            found.push(format!("{refused} are refused: {truth:?}"));
        }
        let forwards = LINES.iter().zip(&truth);
        let backwards = LINES.iter().zip(&truth).rev();
        for (line, truth) in forwards.chain(backwards) {
            if build(way, &world, line, "one") != *truth {
                found.push(format!("{line} has another's result"));
            }
        }
        found
    };
    in_each_way(check);
}
