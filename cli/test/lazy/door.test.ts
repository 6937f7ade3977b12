import t from 'tap';
import { chooseDoor, type NodeFacts, parseVersion } from '../../src/lazy/door.ts';

const GOOD: NodeFacts = {
  isRoot: true,
  hasFuse: true,
  hasErofs: true,
  kernel: [6, 12],
  containerd: [2, 4],
  mkfsTakesTar: true,
  config:
    "[plugins.'io.containerd.snapshotter.v1.erofs']\n  enable_fsverity = false\n[plugins.'other']\n  set_immutable = true\n",
  trialMount: 'ok',
};

t.test('a node that can do all gets door 1', async (t) => {
  t.same(chooseDoor(GOOD), { door: 1, reasons: [] });
  t.same(chooseDoor({ ...GOOD, kernel: [7, 0], containerd: [3, 0], config: undefined }).door, 1);
});

t.test('each thing that is missing is told by name', async (t) => {
  const erofs = (line: string): string => `[plugins."io.containerd.snapshotter.v1.erofs"]\n  ${line}\n`;
  const cases: [Partial<NodeFacts>, door: 2 | 'none', RegExp][] = [
    [{ isRoot: false }, 'none', /root/],
    [{ hasFuse: false }, 'none', /\/dev\/fuse/],
    [{ hasErofs: false }, 'none', /EROFS/],
    [{ kernel: [6, 8] }, 'none', /Linux is 6\.8; 6\.9 is needed/],
    [{ kernel: undefined }, 'none', /Linux was not found/],
    [{ containerd: [1, 5] }, 'none', /containerd is 1\.5; 1\.6 is needed/],
    [{ containerd: undefined }, 'none', /containerd was not found/],
    [{ trialMount: 'no loop devices' }, 'none', /trial mount failed: no loop devices/],
    [{ kernel: [6, 11] }, 2, /Linux is 6\.11; 6\.12 is needed/],
    [{ containerd: [1, 6] }, 2, /containerd is 1\.6; 2\.4 is needed/],
    [{ mkfsTakesTar: false }, 2, /mkfs\.erofs has no --tar/],
    [{ mkfsTakesTar: undefined }, 2, /mkfs\.erofs was not found/],
    [{ config: erofs('enable_fsverity = true') }, 2, /enable_fsverity/],
    [{ config: erofs('set_immutable = true') }, 2, /set_immutable/],
    [{ config: erofs("dmverity_mode = 'on'") }, 2, /dmverity_mode/],
  ];
  for (const [facts, door, reason] of cases) {
    const choice = chooseDoor({ ...GOOD, ...facts });
    t.equal(choice.door, door, String(reason));
    t.equal(choice.reasons.length, 1, String(reason));
    t.match(choice.reasons[0], reason);
  }
});

t.test('versions are found in what programs print', async (t) => {
  t.same(parseVersion('6.18.44-generic'), [6, 18]);
  t.same(parseVersion('mkfs.erofs (erofs-utils) 1.8.6'), [1, 8]);
  t.equal(parseVersion('none'), undefined);
});
