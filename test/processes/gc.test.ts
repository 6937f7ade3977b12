import { Up } from '@sepia/test-support/up';
import t from 'tap';
import { collectRounds } from '../torture/collect/rounds.ts';

/** In so long some 60 operations and 3 collections run at once on a busy machine; `npm run gc-rounds` plays longer rounds. */
const ROUND_MS = 15_000;

t.test(
  'random pushes, deletes, mounts and tag moves while collections run: nothing referenced goes, nothing else stays',
  async (t) => {
    const shape = ['--origins', '7', '--trackers', '1', '--proxies', '3', '--agents', '0', '--restart'];
    await using up = await Up.start(`${t.testdir()}/cluster`, [...shape, '--ports-from', '27000']);
    const sum = await collectRounds(up, {
      ...{ end: { rounds: 2 }, seed: 7, roundMs: ROUND_MS },
      log: (text) => t.comment(text),
    });
    t.match(sum, { lost: 0, corrupt: 0, kept: 0 }, sum.texts.join('\n'));
    t.ok(sum.rounds === 2 && sum.sweeps > sum.rounds, `${sum.rounds} rounds, ${sum.sweeps} collections`);
    t.ok(sum.links > 0 && sum.blobs > 0, `${sum.links} links and ${sum.blobs} files were taken`);
  },
);
