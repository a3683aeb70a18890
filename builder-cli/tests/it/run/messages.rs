//! What is said of a command that can't be started.

use super::in_each_way;

#[test]
fn what_is_missing_is_named() {
    in_each_way(|way| {
        let world = way.world();
        world.write("context/dos.sh", "#!/bin/sh\r\necho\r\n");
        let mut found = Vec::new();
        for (lines, words) in [
            (
                "RUN <<EOF\n#!/usr/bin/python9\nprint(1)\nEOF\n",
                "its interpreter `/usr/bin/python9` does not exist",
            ),
            (
                "RUN <<EOF\n#!/bin/sh\r\necho\nEOF\n",
                "ends in a carriage return",
            ),
            (
                "COPY --chmod=755 dos.sh /s\nRUN [\"/s\"]\n",
                "ends in a carriage return",
            ),
            ("COPY --chmod=755 dos.sh /s\nRUN /s\n", "carriage return"),
            (
                "WORKDIR /w\nRUN rmdir /w && touch /w\nRUN pwd\n",
                "`/w` is a file in the stage",
            ),
            ("COPY dos.sh /w\nWORKDIR /w/x\nRUN pwd\n", "/w"),
        ] {
            let outcome = way.start(&world, &format!("FROM bb\n{lines}"), "").wait();
            if outcome.status == 0 || !outcome.stderr.contains(words) {
                found.push(format!("{words}: {}", outcome.stderr));
            }
        }
        found
    });
}
