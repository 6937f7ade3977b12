import t from 'tap';
import { DescriptorRoom } from '../../src/core/descriptor-room.ts';

/** A process with a limit of 1,024, a clock and looks that are counted. */
function process(lookMs = 0) {
  const state = { open: 100, nowMs: 0, looks: 0, limit: 1_024 };
  const look = () => {
    state.looks += 1;
    state.nowMs += lookMs;
    return { open: state.open, limit: state.limit };
  };
  return { state, room: new DescriptorRoom({ look, nowMs: () => state.nowMs }) };
}

t.test('connections are taken until what is under way would have none left', async (t) => {
  const { state, room } = process();
  let taken = 0;
  while (room.takes()) {
    taken += 1;
    state.open += 1;
  }
  t.equal(100 + taken, 1_024 - 64 + 1, 'the first was counted by the look already');
  t.equal(state.looks, 1);
  state.nowMs = 60;
  t.notOk(room.takes(), 'it looks again and there are as many');
  t.equal(state.looks, 2);
  state.open = 500;
  t.notOk(room.takes(), 'not at once');
  state.nowMs = 120;
  t.ok(room.takes(), 'others have closed');
  t.equal(state.looks, 3);
});

t.test('files and sockets that it opens itself are seen within a second', async (t) => {
  const { state, room } = process();
  t.ok(room.takes());
  state.open = 1_000;
  state.nowMs = 900;
  t.ok(room.takes());
  state.nowMs = 1_000;
  t.notOk(room.takes());
  t.equal(state.looks, 2);
});

t.test('a look that takes long is taken seldom', async (t) => {
  const { state, room } = process(100);
  state.open = 1_000;
  t.notOk(room.takes());
  state.nowMs = 2_000;
  t.notOk(room.takes());
  t.equal(state.looks, 1);
  state.nowMs = 2_100;
  t.notOk(room.takes());
  t.equal(state.looks, 2);
});

t.test('a low limit keeps sixteen; without a limit, or where nobody says, all are taken', async (t) => {
  const { state, room } = process();
  Object.assign(state, { open: 64, limit: 80 });
  t.ok(room.takes());
  t.notOk(room.takes());
  const silent = new DescriptorRoom({ look: () => undefined, nowMs: () => 0 });
  for (let count = 0; count < 5_000; count++) if (!silent.takes()) t.fail('refused');
  t.end();
});
