"""Prints, as JSON, what a tree holds: one line of facts per path (names as hex), hard links by their first name."""
import hashlib
import json
import os
import stat
import sys

# The kernel's own bookkeeping of a mounted layer that an unpacked one does not have.
def facts(path, groups, relative):
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    one = {"kind": kind, "mode": info.st_mode & 0o7777, "uid": info.st_uid, "gid": info.st_gid, "mtime": str(info.st_mtime_ns)}
    if not stat.S_ISDIR(info.st_mode):
        one["links"] = info.st_nlink
        one["first"] = groups.setdefault((info.st_dev, info.st_ino), relative.hex())
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            one["size"] = info.st_size
            one["sha256"] = hashlib.sha256(file.read()).hexdigest()
    if stat.S_ISLNK(info.st_mode):
        one["target"] = os.readlink(path).hex()
    if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        one["rdev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    names = sorted(os.listxattr(path, follow_symlinks=False))
    one["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}
    return one

def walk(root):
    found, groups, open_paths = {}, {}, [b""]
    while open_paths:
        relative = open_paths.pop(0)
        path = os.path.join(root, relative) if relative else root
        try:
            found[relative.hex()] = facts(path, groups, relative)
        except FileNotFoundError:
            # overlayfs lists a whiteout that hides nothing, and has nothing under its name
            found[relative.hex()] = {"kind": 0, "mtime": "0"}
            continue
        if stat.S_ISDIR(os.lstat(path).st_mode):
            open_paths += [os.path.join(relative, name) if relative else name for name in sorted(os.listdir(path))]
    return found

json.dump(walk(os.fsencode(sys.argv[1])), sys.stdout, sort_keys=True)
