import { runHeard } from '@sepia/test-support/clients/heard';
import type { Output } from '@sepia/test-support/testbed';

/**
 * A Python program that prints a line for each path of a container's file system: what is known of it, and the hash of a
 * file's bytes. `hasTimes`: false where the image's maker keeps neither times nor numbers of links.
 */
export function treeWalk(hasTimes: boolean): string {
  const [times, links] = hasTimes
    ? ['s.st_mtime_ns, ', '\n        if not stat.S_ISDIR(s.st_mode): facts.append(s.st_nlink)']
    : ['', ''];
  return `
import hashlib, os, stat
for folder, dirs, files in os.walk("/", followlinks=False):
    if folder == "/": dirs[:] = [d for d in dirs if d not in ("proc", "sys", "dev", "run")]
    dirs.sort()
    for name in sorted(dirs + files):
        path = os.path.join(folder, name)
        if path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc"): continue
        s = os.lstat(path)
        facts = [path, s.st_mode, s.st_uid, s.st_gid, ${times}s.st_rdev, sorted(os.listxattr(path, follow_symlinks=False))]${links}
        if stat.S_ISLNK(s.st_mode): facts.append(os.readlink(path))
        if stat.S_ISREG(s.st_mode):
            with open(path, "rb") as f: facts.append(hashlib.sha256(f.read()).hexdigest())
        print(ascii(facts))
`;
}

/** The lines of {@link treeWalk}, of a container of this image. */
export async function walked(
  containerd: { run(image: string, name: string, command: readonly string[]): Promise<Output> },
  image: string,
  name: string,
  hasTimes: boolean,
): Promise<string[]> {
  const walk = `python3 -B -c '${treeWalk(hasTimes)}'`;
  const { stdout, stderr, code } = await runHeard(containerd, image, name, walk);
  if (code !== 0) throw new Error(stderr);
  return stdout.split('\n');
}
