import t from 'tap';
import { type FlowFigures, type FlowLimits, judgeFlow } from '../../../src/bodies/core/flow.ts';

t.test('the side that stopped a body is named', async (t) => {
  const limits: FlowLimits = { originSilentMs: 5_000, idleMs: 60_000, answerMs: 900_000 };
  const flow = (change: Partial<FlowFigures>): string =>
    judgeFlow(
      {
        clientIdleMs: 0,
        originIdleMs: 0,
        waitsForOrigin: false,
        isComplete: false,
        originAlive: true,
        ...change,
      },
      limits,
    );
  t.equal(flow({}), 'flows');
  t.equal(flow({ clientIdleMs: 60_000 }), 'flows');
  t.equal(flow({ clientIdleMs: 60_001, originIdleMs: 60_001 }), 'client-idle');
  t.equal(flow({ waitsForOrigin: true, clientIdleMs: 100_000 }), 'flows', 'the client waits for us');
  t.equal(flow({ waitsForOrigin: true, originIdleMs: 5_001 }), 'flows', 'it lives, the disk is slow');
  t.equal(flow({ waitsForOrigin: true, originIdleMs: 5_001, originAlive: false }), 'origin-lost');
  t.equal(flow({ waitsForOrigin: true, originIdleMs: 4_000, originAlive: false }), 'flows');
  t.equal(flow({ waitsForOrigin: true, originIdleMs: 60_001 }), 'origin-stuck');
  t.equal(
    flow({ waitsForOrigin: true, originIdleMs: 60_001, isComplete: true }),
    'flows',
    'copying to the owners takes its time',
  );
  t.equal(flow({ waitsForOrigin: true, originIdleMs: 900_001, isComplete: true }), 'origin-stuck');
});
