import t from 'tap';
import { lazyContainers } from '../../src/lazy/lazy-containers.ts';

const CACHE = '/var/lib/sepia/layer-content';
const STATE = '/run/containerd';
const root = (name: string): string => `${STATE}/io.containerd.runtime.v2.task/${name}/rootfs`;
const layer = (number: number): string => `${STATE}/io.containerd.mount-manager.v1.bolt/t/1/${number}`;

const erofs = (target: string, source: string): string =>
  `45 27 0:41 / ${target} ro,relatime shared:7 - erofs ${source} ro,user_xattr,cache_strategy=readaround`;
const overlay = (target: string, lower: readonly string[]): string =>
  `50 27 0:43 / ${target} rw,relatime - overlay overlay rw,lowerdir=${lower.join(':')},upperdir=/u/fs,workdir=/u/work`;

const find = (lines: readonly string[], devices: Readonly<Record<string, string>> = {}): string[] =>
  lazyContainers(lines.join('\n'), { contentCache: CACHE, fileOf: (device) => devices[device] }).map(
    ({ name, layers }) => `${name} ${layers}`,
  );

t.test('containers are named with how many of their layers are ours', async (t) => {
  const lines = [
    '44 27 0:40 / /run/sepia/lazy ro - fuse sepia ro,allow_other',
    erofs(layer(1), `${CACHE}/sha256/e0/e0d9.erofs`),
    erofs(layer(2), '/dev/loop3'),
    erofs(layer(3), '/var/lib/containerd/x.erofs'),
    erofs(layer(4), '/run/sepia/lazy/ab.1.erofs'),
    overlay(root('k8s.io/web'), [layer(1), layer(2), layer(3)]),
    overlay(root('default/other'), [layer(3)]),
    overlay(root('default/door2'), [layer(4)]),
    overlay('/somewhere/else', [layer(1)]),
    '',
  ];
  t.same(find(lines, { '/dev/loop3': '/run/sepia/lazy/cd.1.erofs' }), ['k8s.io/web 2', 'default/door2 1']);
  t.same(find(lines), ['k8s.io/web 1', 'default/door2 1']);
  t.same(find([]), []);
});

t.test('paths with blanks are found', async (t) => {
  const lines = [
    '44 27 0:40 / /mnt/a\\040b ro - fuse sepia ro',
    erofs('/l\\0401', '/mnt/a\\040b/ab.1.erofs'),
    overlay(root('default/one'), ['/l\\0401']),
  ];
  t.same(find(lines), ['default/one 1']);
});
