import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { InternalClient } from '@sepia/http/client';
import { createMemberSockets } from '@sepia/http/sockets';

interface Teardown {
  teardown(stop: () => Promise<void> | void): void;
}

/** A member that answers small questions with `{}`, that it has no blob, and a client of it with two sockets of each kind. */
export interface CrowdedMember {
  readonly url: string;
  readonly client: InternalClient;
  /** Calls that it was asked and never answers. */
  readonly hung: () => number;
}

/** Starts one; it ends with the test. `hangs`: what is never answered. */
export async function startCrowdedMember(
  t: Teardown,
  hangs: (method: string, path: string) => boolean,
): Promise<CrowdedMember> {
  let hung = 0;
  const server = createServer((req, res) => {
    if (hangs(req.method ?? '', req.url ?? '')) hung += 1;
    else res.end(req.url?.includes('/where?') === true ? '{"state":"none"}' : '{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { sockets, destroy } = createMemberSockets({ connections: 2, waits: 2 });
  t.teardown(async () => {
    await destroy();
    server.closeAllConnections();
    server.close();
  });
  const own = { clusterKey: Buffer.alloc(32, 1), memberId: 'asker', clock: new MemberClock() };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    client: new InternalClient({ ...own, ...sockets }),
    hung: () => hung,
  };
}
