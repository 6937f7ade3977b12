import t from 'tap';
import {
  attrReply,
  entryReply,
  initReply,
  parseName,
  parseRead,
  parseRequest,
  ROOT_KEY,
  readdirReply,
  replyHeader,
  resendNotice,
} from '../../src/fuse/messages.ts';
import { hasBlocks, keyOf } from '../../src/fuse/shown-file.ts';

t.test('a request is read, and its number echoed as it is', async (t) => {
  const bytes = Buffer.alloc(80);
  bytes.writeUInt32LE(80, 0);
  bytes.writeUInt32LE(15, 4);
  bytes.write('0102030405060788', 8, 'hex');
  bytes.write(ROOT_KEY, 16, 'hex');
  bytes.writeUInt32LE(4096, 48);
  bytes.writeUInt32LE(3, 52);
  bytes.writeUInt32LE(8192, 56);
  const request = parseRequest(bytes);
  t.equal(request.op, 15);
  t.equal(request.key, ROOT_KEY);
  t.same(parseRead(request.body), { offset: 3 * 2 ** 32 + 4096, size: 8192 });
  const header = replyHeader(request.unique, -5, 0);
  t.equal(header.toString('hex'), '10000000fbffffff0102030405060788');
  t.equal(replyHeader(request.unique, 0, 100).readUInt32LE(0), 116);
  t.equal(resendNotice().toString('hex'), '10000000070000000000000000000000');
});

t.test('INIT takes what the kernel offers and we want, no more', async (t) => {
  const body = Buffer.alloc(64);
  body.writeUInt32LE(7, 0);
  body.writeUInt32LE(45, 4);
  body.writeUInt32LE(0xffffffff, 12);
  body.writeUInt32LE(0xffffffff, 16);
  const reply = initReply(body);
  t.equal(reply.length, 64);
  t.equal(reply.readUInt32LE(12), (1 | (1 << 18) | (1 << 22) | (1 << 30)) >>> 0);
  t.equal(reply.readUInt32LE(32), 1 << 7);
  t.equal(reply.readUInt16LE(28), 256);
  body.writeUInt32LE(1, 12);
  body.writeUInt32LE(31, 4);
  t.equal(initReply(body).readUInt32LE(12), 1);
  t.equal(initReply(body).readUInt32LE(4), 31);
  t.equal(initReply(body).readUInt32LE(32), 0, 'no second word of flags from an older kernel');
});

t.test('files have the same node id in the next process, never that of the root', async (t) => {
  const key = keyOf('a.erofs');
  t.equal(key, keyOf('a.erofs'));
  t.not(key, keyOf('b.erofs'));
  t.equal(key.slice(14), '40');
  const file = { key, name: 'a.erofs', sizeBytes: 5 * 2 ** 32 + 1 };
  const entry = entryReply(file);
  t.equal(entry.length, 128);
  t.equal(entry.toString('hex', 0, 8), key);
  t.equal(entry.readBigUInt64LE(48), BigInt(file.sizeBytes));
  t.equal(entry.readUInt32LE(100), 0o100400);
  t.equal(attrReply(undefined).readUInt32LE(76), 0o040500);
  t.equal(attrReply(file).length, 104);
  t.equal(parseName(Buffer.from('name\0')), 'name');
});

t.test('a folder is listed in pieces of any size', async (t) => {
  const files = ['one', 'a-longer-name.erofs', 'x'].map((name) => ({ key: keyOf(name), name, sizeBytes: 1 }));
  for (const size of [64, 100, 4096]) {
    const names: string[] = [];
    for (let offset = 0; ; ) {
      const bytes = readdirReply(files, offset, size);
      if (bytes.length === 0) break;
      t.ok(bytes.length <= size);
      for (let at = 0; at < bytes.length; ) {
        const length = bytes.readUInt32LE(at + 16);
        names.push(bytes.toString('latin1', at + 24, at + 24 + length));
        offset = Number(bytes.readBigUInt64LE(at + 8));
        at += Math.ceil((24 + length) / 8) * 8;
      }
    }
    t.same(names, ['.', '..', 'one', 'a-longer-name.erofs', 'x'], `in ${size} bytes`);
  }
});

t.test('a range is there when all of its blocks are', async (t) => {
  const blocks = new Int32Array(new SharedArrayBuffer(8));
  blocks[0] = -1;
  blocks[1] = 0b101;
  t.ok(hasBlocks(blocks, 0, 32 * 4096));
  t.ok(hasBlocks(blocks, 31 * 4096 + 5, 4096));
  t.notOk(hasBlocks(blocks, 32 * 4096, 4097));
  t.ok(hasBlocks(blocks, 34 * 4096, 1));
  t.notOk(hasBlocks(blocks, 34 * 4096, 4097));
});
