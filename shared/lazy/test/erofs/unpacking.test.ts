import { isCoded } from '@sepia/base/errors';
import t from 'tap';
import { imageOf } from '../../src/erofs/image-part.ts';
import { readIndexHead } from '../../src/index/layer-index.ts';
import { LayerIndexer } from '../../src/index/layer-indexer.ts';
import { type TarPart, writeGlobal, writeTar } from '../support/tar-writer.ts';

function reasonOf(tar: Buffer): unknown {
  try {
    const indexer = new LayerIndexer();
    indexer.push(tar);
    imageOf(readIndexHead(indexer.end().bytes));
    return undefined;
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return `${error.detail['reason']}: ${error.detail['path']}`;
  }
}

const of = (...parts: TarPart[]): unknown => reasonOf(writeTar(parts));
const dir = (name: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  typeFlag: '5',
  mode: 0o755,
  ...more,
});
const xattr = (name: string): Pick<TarPart, 'xattrs'> => ({ xattrs: new Map([[name, Buffer.from('v')]]) });

t.test('the root of a container belongs to root', async (t) => {
  t.equal(
    of(dir('./', { mode: 0o700, mtimeSec: 5, ...xattr('user.a') })),
    undefined,
    'no more is seen of it',
  );
  t.equal(of(dir('./', { uid: 1000 })), 'root-has-another-owner: ');
  t.equal(of(dir('/', { gid: 5 })), 'root-has-another-owner: ');
});

t.test('attributes that unpacking leaves out', async (t) => {
  t.equal(of({ name: 'x', ...xattr('trusted.mine') }), 'trusted-xattr: x');
  t.equal(of({ name: 'x', ...xattr('trusted.overlay.redirect') }), undefined, 'an image leaves it out, too');
  t.equal(of({ name: 'x', ...xattr('user.mine') }), undefined);
  t.equal(of(dir('d', xattr('user.mine'))), undefined);
  for (const typeFlag of ['2', '3', '4', '6'])
    t.equal(
      of({ name: 'x', typeFlag, linkName: 'l', ...xattr('user.mine') }),
      'user-xattr-not-possible: x',
      typeFlag,
    );
  t.equal(of({ name: 'x', typeFlag: '2', linkName: 'l', ...xattr('security.mine') }), undefined);
});

t.test('lists of rights, and owners that are none', async (t) => {
  t.equal(of({ name: 'x', ...xattr('system.posix_acl_access') }), 'posix-acl: x');
  t.equal(of(dir('d', xattr('system.posix_acl_default'))), 'posix-acl: d');
  for (const id of ['uid', 'gid'] as const) {
    t.equal(of({ name: 'x', [id]: 4_294_967_295 }), 'owner-not-possible: x');
    t.equal(of({ name: 'x', [id]: 4_294_967_294 }), undefined);
  }
});

t.test('a directory that comes twice keeps its attributes', async (t) => {
  const twice = 'directory-twice-with-other-attributes: d';
  t.equal(of(dir('d', xattr('user.a')), dir('d')), twice);
  t.equal(of(dir('d', xattr('user.a')), dir('d', xattr('user.b'))), twice);
  t.equal(of(dir('d', xattr('user.a')), dir('d/', { mode: 0o700, ...xattr('user.a') })), undefined);
  t.equal(of(dir('d'), dir('./d', xattr('user.a'))), undefined);
});

t.test('what replaces a directory gets its time', async (t) => {
  t.equal(of(dir('d'), { name: 'd' }), 'directory-replaced: d');
  t.equal(of(dir('a/b/c'), { name: 'a', typeFlag: '2', linkName: '/' }), 'directory-replaced: a');
  t.equal(of(dir('a'), dir('a/b'), { name: 'a', typeFlag: '6' }), 'directory-replaced: a');
  t.equal(of({ name: 'd' }, dir('d')), undefined, 'a file that a directory replaces');
  t.equal(of({ name: 'd/x' }, { name: 'd' }), undefined, 'nobody says a time of an implied one');
});

t.test('a directory and its own whiteout are understood in two ways', async (t) => {
  t.equal(of({ name: '.wh.d' }, dir('d')), 'directory-and-its-whiteout: .wh.d');
  t.equal(of(dir('a/d'), { name: 'a/.wh.d' }), 'directory-and-its-whiteout: a/.wh.d');
  t.equal(of({ name: '.wh.d' }, { name: 'd' }), undefined, 'a file is there in both');
  t.equal(of(dir('d'), { name: 'd/.wh..wh..opq' }, { name: 'b/.wh.d' }), undefined);
});

t.test('a setgid directory gives its group to what is made in it', async (t) => {
  const staff = dir('var/local', { mode: 0o2775, gid: 50 });
  t.equal(of(staff, { name: 'var/local/app/x' }), 'implied-in-setgid-directory: var/local/app');
  t.equal(of(staff, dir('var/local/app'), { name: 'var/local/app/x' }, { name: 'var/local/y' }), undefined);
  t.equal(of({ ...staff, gid: 0 }, { name: 'var/local/app/x' }), undefined, 'root has that group anyway');
});

t.test('what a global header changes is taken in two ways', async (t) => {
  const after = (records: [string, string][], part: TarPart): unknown =>
    reasonOf(Buffer.concat([writeGlobal(new Map(records)), writeTar([part])]));
  t.equal(after([['comment', 'a commit']], { name: 'x' }), undefined);
  t.equal(after([['uid', '5']], { name: 'x' }), 'global-header: x');
  t.equal(after([['uid', '5']], { name: 'x', pax: new Map([['uid', '7']]) }), undefined, 'its own wins');
});

t.test('directories that only paths name have an end', async (t) => {
  const deep = (count: number): TarPart[] =>
    Array.from({ length: count }, (_none, index) => ({ name: `${index}/${'a/'.repeat(1999)}f` }));
  t.equal(of(...deep(50)), undefined, '100,000 of them');
  t.match(of(...deep(51)), /^too-many-implied-directories: 50\/a/);
});
