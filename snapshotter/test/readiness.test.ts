import { silentLogger } from '@sepia/base/log';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { Readiness } from '../src/readiness.ts';

/** A daemon whose surroundings are as the test says; time is virtual. */
function daemon(t: Test) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const around = {
    mount: undefined as string | undefined,
    holder: undefined as string | undefined,
    refused: undefined as string | undefined,
    mountHangs: false,
    agentIsSilent: false,
  };
  const looks = {
    mount: async () => {
      if (around.mountHangs) await new Promise<void>(() => undefined);
      return around.mount;
    },
    holder: async () => around.holder,
    agent: async () => {
      if (around.agentIsSilent) throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    },
  };
  const readiness = new Readiness({
    looks,
    log: silentLogger(),
    nowMs: Date.now,
    refused: () => around.refused,
  });
  readiness.start();
  t.teardown(() => readiness.stop());
  return { time, around, readiness };
}

t.test('a daemon that can do its job is ready', async (t) => {
  const { time, readiness } = daemon(t);
  await time.pass(60_000);
  t.equal(readiness.notReady, undefined);
});

t.test('a mount that shows something else, a holder that is gone: said once it lasts', async (t) => {
  for (const what of ['mount', 'holder'] as const) {
    const { time, around, readiness } = daemon(t);
    await time.pass(20_000);
    around[what] = `no ${what}`;
    await time.pass(6_000);
    t.equal(readiness.notReady, undefined, 'another may take its place');
    await time.pass(15_000);
    t.equal(readiness.notReady, `no ${what}`);
    around[what] = undefined;
    await time.pass(6_000);
    t.equal(readiness.notReady, undefined, 'it is back');
    await readiness.stop();
    time.uninstall();
  }
});

t.test('a mount that answers nothing is looked at once, and the rest goes on being looked at', async (t) => {
  const { time, around, readiness } = daemon(t);
  around.mountHangs = true;
  await time.pass(30_000);
  t.equal(readiness.notReady, 'the mount does not answer');
  around.agentIsSilent = true;
  await time.pass(30_000);
  t.equal(readiness.notReady, 'the mount does not answer');
});

t.test('an agent that is silent or refuses this node', async (t) => {
  const { time, around, readiness } = daemon(t);
  around.agentIsSilent = true;
  await time.pass(21_000);
  t.match(
    readiness.notReady,
    /none of the agents of this node has answered for \d+ s \(agent: ECONNREFUSED\)/,
  );
  around.agentIsSilent = false;
  around.refused = 'wrong secret';
  await time.pass(6_000);
  t.equal(readiness.notReady, 'wrong secret');
});
