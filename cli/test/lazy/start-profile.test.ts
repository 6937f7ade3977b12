import t from 'tap';
import { profileOf, profileText } from '../../src/lazy/start-profile.ts';

const manifest = `sha256:${'a'.repeat(64)}`;
const layers = [
  { digest: 'sha256:aa', diffId: 'sha256:1' },
  { digest: 'sha256:bb', diffId: 'sha256:2' },
];
const image = { image: 'local/team/app', manifest, isLazy: true, layers, atMs: 1 };
const file = (path: string, turn: number): { path: string; turn: number } => ({ path, turn });

t.test('the files of an image come from all of its layers, in one order, each once', async (t) => {
  const reads = [
    { layer: 'sha256:bb', isWhole: true, files: [file('app/main.py', 2), file('bin/sh', 9)] },
    { layer: 'sha256:aa', isWhole: false, files: [file('bin/sh', 1), file('lib/libc.so.6', 3)] },
    { layer: 'sha256:cc', isWhole: false, files: [file('of/another', 1)] },
  ];
  const profile = profileOf('team/app:1', [image], reads);
  t.same(profile.paths, ['bin/sh', 'app/main.py', 'lib/libc.so.6']);
  t.same(profile.unseen, ['sha256:bb'], 'a layer whose reads are not all seen is named');
  t.equal(
    profileText(profile),
    `# local/team/app@${manifest}: files in the order in which a start read them\nbin/sh\napp/main.py\nlib/libc.so.6\n`,
  );
});

t.test('names that a list cannot hold are left out', async (t) => {
  const files = [file('#a', 1), file('b\nc', 2), file('\uFFFDd', 3), file('\u001b[2J', 4), file('e', 5)];
  const { paths } = profileOf('team/app:1', [image], [{ layer: 'sha256:aa', isWhole: false, files }]);
  t.same(paths, ['e']);
});

t.test('what cannot be told is an error that says what to do', async (t) => {
  const code = 'REQUEST_INVALID';
  t.throws(() => profileOf('team/other:1', [image], []), { code, message: /was not pulled lazily/ });
  const ordinary = { ...image, isLazy: false };
  t.throws(() => profileOf('team/app:1', [ordinary], []), { code, message: /sepia lazy status/ });
  t.throws(() => profileOf('team/app:1', [image], []), { code, message: /run a container of it first/ });
});
