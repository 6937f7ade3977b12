import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, renameSync, rmSync } from 'node:fs';
import t from 'tap';
import { bytesOf, copies, fileIn, MIB, pull, push, setUp, until } from './bed.ts';

t.test(
  'a file that hangs when it is opened: 503 in time, the origin goes on, and it comes back',
  async (t) => {
    const { c, place } = await setUp(t, {
      origins: 1,
      budget: '100KiB',
      config: 'deadlines:\n  fetch-progress: 2s',
    });
    const [hung, other] = [bytesOf(MIB, 1), bytesOf(MIB, 2)];
    const digests = [await push(c, hung), await push(c, other)] as const;
    for (const one of digests) await until(() => copies(c, one).length === 0, 'it is in the folder alone');
    const file = fileIn(place, digests[0]);
    renameSync(file, `${file}.aside`);
    // Who opens a pipe that nobody writes to waits, as on a mount whose server is away.
    execFileSync('mkfifo', [file]);
    let isBack = false;
    const letGo = (): void => {
      if (!isBack) closeSync(openSync(file, constants.O_RDWR | constants.O_NONBLOCK));
      isBack = true;
    };
    t.teardown(letGo);
    const path = `/v1/blobs/${digests[0]}?upstream=local&repository=team/app`;
    const answer = await c.get('o1', path);
    t.equal(answer.status, 503);
    t.match(answer.bytes.toString(), /does not answer within|does not answer/);
    // A process of this size may have one thread hang: the folder counts as away, and the origin goes on.
    const next = await c.get('o1', path.replace(digests[0], digests[1]));
    t.equal(next.status, 503);
    t.equal((await c.get('o1', '/v1/status')).status, 200);
    letGo();
    rmSync(file);
    renameSync(`${file}.aside`, file);
    t.ok((await pull(c, 'o1', digests[0])).bytes.equals(hung), 'it is read again');
    t.ok((await pull(c, 'o1', digests[1])).bytes.equals(other), 'as is all else');
  },
);
