import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { run } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import { sumsOf } from '../../src/fuse/block-sums.ts';
import { type FileToShow, FuseServer } from '../../src/fuse/fuse-server.ts';
import { whyNoFuse } from '../support/why-no-fuse.ts';

const SIZE = 64 * 4096;

/** A mount of its own, and files that are whole on disk. */
class Mounted {
  readonly dir: string;
  readonly at: string;
  readonly server: FuseServer;
  /** The byte that the main thread answers misses with; undefined: it has none. */
  fromElsewhere: number | undefined;
  missed = 0;
  readonly #fd: number;

  private constructor(dir: string, fd: number) {
    this.dir = dir;
    this.at = join(dir, 'mnt');
    this.#fd = fd;
    const readMiss = async (_name: string, _offset: number, size: number): Promise<Buffer> => {
      this.missed += 1;
      if (this.fromElsewhere === undefined) throw new Error('nothing is missing');
      return Buffer.alloc(size, this.fromElsewhere);
    };
    const deps = { log: silentLogger(), readMiss, onEnd: () => undefined };
    this.server = new FuseServer(deps, { fd, mountPoint: this.at }, []);
  }

  static async start(t: Test): Promise<Mounted> {
    const dir = mkdtempSync(join(tmpdir(), 'fuse-'));
    mkdirSync(join(dir, 'mnt'));
    const fd = openSync('/dev/fuse', constants.O_RDWR);
    const options = 'ro,fd=3,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=1048576';
    const mount = spawn('mount', ['-i', '-t', 'fuse', '-o', options, 'test', join(dir, 'mnt')], {
      stdio: ['ignore', 'ignore', 'inherit', fd],
    });
    const code = await new Promise((settle) => mount.once('exit', settle));
    if (code !== 0) throw new Error(`mount ended with ${code}`);
    const mounted = new Mounted(dir, fd);
    t.teardown(async () => {
      await mounted.server.stop();
      await run('umount', ['-l', mounted.at]);
      closeSync(mounted.#fd);
      rmSync(dir, { recursive: true, force: true });
    });
    return mounted;
  }

  /** Shows a file of one byte value, all of it there. @returns its descriptor in this process */
  show(name: string, byte: number, fd = this.#written(name, byte)): number {
    const blocks = new SharedArrayBuffer(8);
    new Int32Array(blocks).fill(-1);
    const turns = new SharedArrayBuffer((4 * SIZE) / 4096);
    const sums = new SharedArrayBuffer((4 * SIZE) / 4096);
    new Int32Array(sums).set(sumsOf(Buffer.alloc(SIZE, byte)));
    const file: FileToShow = { name, sizeBytes: SIZE, fd, blocks, sums, turns };
    this.server.show(file);
    return fd;
  }

  #written(name: string, byte: number): number {
    writeFileSync(join(this.dir, `${name}.image`), Buffer.alloc(SIZE, byte));
    return openSync(join(this.dir, `${name}.image`), 'r');
  }
}

async function byteAt(file: FileHandle, offset: number): Promise<number> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(1), 0, 1, offset);
  return bytesRead === 1 ? buffer[0]! : -1;
}

t.test(
  'a hidden file is served to nobody, and its descriptor may be another’s',
  { skip: (process.getuid?.() === 0 ? whyNoFuse() : 'needs root to mount') ?? false, timeout: 120_000 },
  async (t) => {
    const mounted = await Mounted.start(t);
    const fd = mounted.show('one', 1);
    mounted.show('two', 2);
    t.ok((await readFile(join(mounted.at, 'two'))).equals(Buffer.alloc(SIZE, 2)));
    // Without readahead and cache, so that each read is asked for.
    const one = await open(join(mounted.at, 'one'), constants.O_RDONLY | constants.O_DIRECT);
    t.teardown(() => one.close());
    const block = Buffer.alloc(4096);
    t.equal((await one.read(block, 0, 4096, 0)).bytesRead, 4096);
    t.equal(block[0], 1);
    await mounted.server.hide('one');
    closeSync(fd);
    // It takes the number that is free now.
    mounted.show('three', 3);
    await t.rejects(one.read(block, 0, 4096, 8192), { code: 'EIO' }, 'never the bytes of another file');
    const three = await open(join(mounted.at, 'three'));
    t.equal(await byteAt(three, SIZE - 1), 3);
    await three.close();
    mounted.show('one', 1);
    const again = await open(join(mounted.at, 'one'));
    t.equal(await byteAt(again, SIZE - 1), 1, 'shown again it is there again');
    await again.close();
  },
);

t.test(
  'what is not as it was written is no answer: the main thread has the right one',
  { skip: (process.getuid?.() === 0 ? whyNoFuse() : 'needs root to mount') ?? false, timeout: 120_000 },
  async (t) => {
    const mounted = await Mounted.start(t);
    const fd = mounted.show('one', 1);
    t.teardown(() => closeSync(fd));
    const image = join(mounted.dir, 'one.image');
    const one = await open(join(mounted.at, 'one'), constants.O_RDONLY | constants.O_DIRECT);
    t.teardown(() => one.close());
    const block = Buffer.alloc(4096);
    const read = async (offset: number): Promise<number> => {
      await one.read(block, 0, 4096, offset);
      return block[100]!;
    };
    const bytes = Buffer.alloc(SIZE, 1);
    bytes[8192 + 100] = 9;
    writeFileSync(image, bytes);
    await t.rejects(read(8192), { code: 'EIO' }, 'never the wrong byte');
    mounted.fromElsewhere = 1;
    t.equal(await read(8192), 1);
    t.equal(mounted.missed, 2);
    t.equal(await read(4096), 1);
    t.equal(mounted.missed, 2, 'what is right is answered from the disk');
    truncateSync(image, 4096);
    t.equal(await read(4096), 1, 'nor is the end of a file that was cut');
    t.equal(mounted.missed, 3);
    // A folder is read as a disk that fails is: with an error.
    const folder = openSync(mounted.dir, 'r');
    t.teardown(() => closeSync(folder));
    mounted.show('two', 1, folder);
    const two = await readFile(join(mounted.at, 'two'));
    t.ok(two.equals(Buffer.alloc(SIZE, 1)), 'nor is what the disk does not read');
    t.ok(mounted.missed > 3);
  },
);
