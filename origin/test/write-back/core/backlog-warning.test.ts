import t from 'tap';
import { adviceFor } from '../../../src/write-back/core/advice.ts';
import { backlogWarning } from '../../../src/write-back/core/backlog-warning.ts';

const RULES = { 'warn-after': 900_000 };

t.test('a backlog warns when it is old or something was given up', async (t) => {
  t.equal(backlogWarning({ upstream: 'hub', waiting: 5, dead: 0, oldestMs: 900_000 }, RULES), undefined);
  t.equal(backlogWarning({ upstream: 'hub', waiting: 0, dead: 0 }, RULES), undefined);
  t.match(
    backlogWarning({ upstream: 'hub', waiting: 5, dead: 0, oldestMs: 1_800_000 }, RULES),
    /write-back to hub: 5 pushes wait, the oldest for 30 min; see/,
  );
  t.match(backlogWarning({ upstream: 'hub', waiting: 0, dead: 2 }, RULES), /2 were given up/);
});

t.test('advice tells a quota from missing rights', async (t) => {
  t.match(adviceFor('UPSTREAM_DENIED', 'adding 1 GiB will exceed the quota'), /quota of the project/);
  t.match(adviceFor('UPSTREAM_DENIED', 'unauthorized to access repository'), /credentials/);
  t.match(adviceFor('UPSTREAM_POLICY', ''), /immutable/);
  t.equal(adviceFor('INTERNAL', ''), undefined);
});
