import { createHash } from 'node:crypto';
import { type Runner, runHeard } from '@sepia/test-support/clients/heard';
import t from 'tap';
import { LazyNode, madeLayer, shellLayer, whyNoLazyNode } from './support/lazy-node.ts';

const OPTIONS = { skip: whyNoLazyNode() ?? false, timeout: 900_000 };
const MIB = 1024 * 1024;
const LIMIT_BYTES = 64 * MIB;
/** Six times what the container may take. */
const FILE_BYTES = 6 * LIMIT_BYTES;
const LINE_BYTES = 64;

/** Text whose every line is another, so that no block is like another, and which is small when it is compressed. */
function numbered(bytes: number): Buffer {
  const text = Buffer.alloc(bytes, `${'-'.repeat(LINE_BYTES - 1)}\n`);
  for (let at = 0; at < bytes; at += LINE_BYTES) text.write(String(at), at, 'latin1');
  return text;
}

t.test(
  'a container that may take 64 MiB reads 384 MiB: all of it, right, and is not killed',
  OPTIONS,
  async (t) => {
    const payload = numbered(FILE_BYTES);
    const sha256 = createHash('sha256').update(payload).digest('hex');
    const large = madeLayer([{ name: 'large', mode: 0o644, payload }]);
    const { containerd, daemon, images } = await LazyNode.start(t, [
      { repository: 't/large', layers: [shellLayer(), large] },
    ]);
    await containerd.pull(images[0]!);
    t.equal((await containerd.content()).length, 2, 'manifest and config are stored, no layer');
    const read = async (name: string): Promise<void> => {
      const script =
        'sha256sum /large && (cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max || true)';
      const options = ['--memory-limit', String(LIMIT_BYTES)];
      const limited: Runner = {
        run: async (...what) => await containerd.run(...what, options),
      };
      const { code, stdout, stderr } = await runHeard(limited, images[0]!, name, script);
      t.match(stdout, sha256, `${name}: ${code} ${stderr}`);
      t.comment(stdout, stderr);
    };
    await read('cold');
    t.ok((await daemon.fetchedBytes()) > 0, 'it came from the agent');
    await read('warm');
  },
);
