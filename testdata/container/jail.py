#!/usr/bin/env python3
"""Runs a program as a default container does: jail.py [--users] [--without-landlock] [--without-memory] UID
CAPABILITIES PROGRAM [ARGUMENT...]

The system calls of denied.json are refused, and there are no capabilities but CAPABILITIES (setpriv's words, with
commas, or none). --users puts the program into a user namespace of its own, with the ids of the host.
--without-landlock makes the kernel one that has no Landlock, --without-memory one that lets nobody read the memory of
others but by /proc. Nobody gains rights by a program. Needs root and setpriv.
"""
import ctypes
import json
import os
import platform
import struct
import sys

CLONE_NEWUSER, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 0x10000000, 22, 2
LOAD, JUMP_EQUAL, JUMP_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERRNO, EPERM, ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "a system call of the jail")


def own_users():
    """A user namespace with all ids of the host; they are written by a child that stays outside."""
    ready, done = os.pipe(), os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.read(ready[0], 1)
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{parent}/{name}", "w") as file:
                file.write("0 0 65536")
        os._exit(0)
    check(libc.unshare(CLONE_NEWUSER))
    os.write(ready[1], b"x")
    if os.wait()[1] != 0:
        raise SystemExit("no ids for the user namespace")


# landlock_create_ruleset, landlock_add_rule, landlock_restrict_self
LANDLOCK = (444, 445, 446)
# process_vm_readv, process_vm_writev
MEMORY = {"x86_64": (310, 311), "aarch64": (270, 271)}


def program(without):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "denied.json")) as file:
        table = json.load(file)
    machine = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    yield LOAD, 0, 0, 0
    for numbers in table["refused"].values():
        if numbers[machine] is not None:
            yield JUMP_EQUAL, 0, 1, numbers[machine]
            yield RETURN, 0, 0, ERRNO | EPERM
    if "--without-memory" in without:
        for number in MEMORY[platform.machine()]:
            yield JUMP_EQUAL, 0, 1, number
            yield RETURN, 0, 0, ERRNO | EPERM
    absent = (table["clone3"][machine],) + (LANDLOCK if "--without-landlock" in without else ())
    for number in absent:
        yield JUMP_EQUAL, 0, 1, number
        yield RETURN, 0, 0, ERRNO | ENOSYS
    yield JUMP_EQUAL, 0, 3, table["clone"][machine]
    yield LOAD, 0, 0, 16
    yield JUMP_BITS, 0, 1, table["clone_flags"]
    yield RETURN, 0, 0, ERRNO | EPERM
    yield RETURN, 0, 0, ALLOW


def put_up_filter(without):
    code = [struct.pack("HBBI", *one) for one in program(without)]
    text = ctypes.create_string_buffer(b"".join(code))
    whole = struct.pack("HxxxxxxP", len(code), ctypes.addressof(text))
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(whole), 0, 0))


def main():
    words = sys.argv[1:]
    if words[0] == "--users":
        own_users()
        words = words[1:]
    without = []
    while words[0].startswith("--without"):
        without.append(words.pop(0))
    uid, capabilities, command = words[0], words[1], words[2:]
    put_up_filter(without)
    kept = ",".join(["-all"] + ["+" + one for one in capabilities.split(",") if one])
    who = [] if uid == "0" else [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    os.execvp("setpriv", ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "--no-new-privs", *who, *command])


main()
