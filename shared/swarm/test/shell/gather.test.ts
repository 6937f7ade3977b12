import t from 'tap';
import { Gather } from '../../src/shell/gather.ts';

class FakeSocket {
  destroyed = false;
  paused = false;
  resumed = 0;
  isPaused(): boolean {
    return this.paused;
  }
  resume(): void {
    this.resumed += 1;
  }
}

t.test('content that trickles is read in turns, messages and fast links at once', async (t) => {
  const turns: (() => void)[] = [];
  const gather = new Gather((run) => turns.push(run));
  const [one, two, owned, gone] = [new FakeSocket(), new FakeSocket(), new FakeSocket(), new FakeSocket()];
  t.notOk(gather.holds(one, 17), 'a request');
  t.notOk(gather.holds(one, 64 * 1024), 'a full read');
  t.equal(turns.length, 0);
  for (const socket of [one, two, owned, gone]) t.ok(gather.holds(socket, 1_448));
  t.equal(turns.length, 1, 'one timer for all');
  owned.paused = true;
  gone.destroyed = true;
  turns[0]!();
  t.same(
    [one, two, owned, gone].map(({ resumed }) => resumed),
    [1, 1, 0, 0],
  );
  t.ok(gather.holds(one, 2_000));
  t.equal(turns.length, 2, 'the next turn');
});
