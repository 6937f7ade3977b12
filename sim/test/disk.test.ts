import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { Disk } from '../src/swarm/disk.ts';

t.test(
  'a piece is there for good a while after it was written, and never where the node died before',
  async (t) => {
    const disk = new Disk(new Bitfield(200));
    for (let index = 0; index < 100; index++) disk.write(index, index);
    t.same([...disk.durable(199)], []);
    t.same([...disk.durable(202)], [0, 1, 2]);
    disk.die(250);
    t.equal(disk.durable(10_000).count, 51);
    disk.write(150, 10_000);
    t.equal(disk.durable(10_200).count, 52);
    disk.complete();
    t.ok(disk.durable(10_200).complete);
  },
);
