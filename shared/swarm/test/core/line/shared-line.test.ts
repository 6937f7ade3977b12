import t from 'tap';
import { SharedLine } from '../../../src/core/line/shared-line.ts';

t.test('swarms count what they have on one line, each with its own of now', async (t) => {
  const line = new SharedLine(0);
  const [one, two, three] = [line.place(), line.place(), line.place()];
  t.same([one.asked.swarms(), one.asked.total(4)], [1, 4], 'alone');
  one.asked.note(4);
  two.asked.note(2);
  t.equal(one.asked.swarms(), 2);
  t.equal(three.asked.swarms(), 3, 'who begins counts itself');
  t.equal(one.asked.total(5), 7, 'its own is what it says now');
  t.equal(three.asked.total(0), 6);
  t.equal(three.suggested.swarms(), 1, 'what is suggested is another thing');
  one.asked.note(0);
  t.same([two.asked.swarms(), two.asked.total(2)], [1, 2], 'who ends leaves its share to others');
  two.came(2 ** 20, 1_000);
  t.equal(one.rate.bytesPerSec, 2 ** 20, 'what comes is of all together');
  three.came(10, 1_100);
  t.same(two.arrived(), { ownBytes: 2 ** 20, lineBytes: 2 ** 20 + 10 });
  t.same(one.arrived(), { ownBytes: 0, lineBytes: 2 ** 20 + 10 });
});

t.test('pieces on their way are counted by sender, and nobody is kept in mind for nothing', async (t) => {
  const { senders } = new SharedLine(0).place();
  senders.add('a', 2);
  senders.add('b', 1);
  senders.add('a', -1);
  t.same([senders.of('a'), senders.of('b'), senders.of('c')], [1, 1, 0]);
  senders.add('a', -1);
  t.equal(senders.of('a'), 0);
});
