import { createServer } from 'node:net';
import { CodedError, systemCode } from '@sepia/base/errors';
import { HOST, type MemberPlan, portsOf } from './plan.ts';

/** The first port of the plan that cannot be bound, with its member, or undefined. */
export async function takenPort(
  members: readonly MemberPlan[],
): Promise<{ port: number; member: string; use: string; code: string } | undefined> {
  for (const member of members) {
    for (const { port, use } of portsOf(member)) {
      const code = await tryBind(port);
      if (code !== undefined) return { port, member: member.name, use, code };
    }
  }
  return undefined;
}

/** @throws {CodedError} `START_FAILED` naming the first port that is not free */
export async function demandFreePorts(members: readonly MemberPlan[]): Promise<void> {
  const taken = await takenPort(members);
  if (taken === undefined) return;
  throw new CodedError('START_FAILED', {
    message: `port ${taken.port} (${taken.use} port of ${taken.member}) ${whatToDo(taken.code)}`,
    detail: taken,
  });
}

/** Why a port cannot be bound, by the system's code, and what helps. */
export function whatToDo(code: string): string {
  if (code === 'EADDRINUSE')
    return 'is taken by another process; stop that process or choose others with --ports-from';
  if (code === 'EACCES') return 'needs more rights; choose ports above 1023 with --ports-from';
  return `cannot be bound (${code}); choose others with --ports-from`;
}

async function tryBind(port: number): Promise<string | undefined> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve(systemCode(error) ?? 'unknown'));
    server.listen({ port, host: HOST, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
