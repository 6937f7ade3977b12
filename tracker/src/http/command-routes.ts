import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { COMMAND_REQUEST, type CommandState } from '@sepia/cluster/api/commands';
import type { RequestState } from '@sepia/http/app';
import { readJson } from '@sepia/http/signed';
import type { Context } from 'koa';
import type { CommandBook, CommandNode } from '../commands/core/command-book.ts';
import type { SwarmTable } from '../swarms/core/swarm-table.ts';
import { checked } from './messages.ts';

/** Longest body of a command, in bytes: 10,000 digests and 10,000 nodes. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

interface CommandRouteDeps {
  readonly table: SwarmTable;
  readonly commands: CommandBook;
  readonly nowMs: () => number;
}

/** Signed routes for commands to nodes: take one, tell what became of it, withdraw it. */
export function commandRoutes(router: Router, deps: CommandRouteDeps): void {
  const { table, commands, nowMs } = deps;
  router.post('/commands', async (ctx) => {
    (ctx.state as RequestState).route = 'command';
    const request = await readJson(ctx as Context, MAX_BODY_BYTES, (value) =>
      checked(COMMAND_REQUEST, value),
    );
    const leased = { count: table.nodeCount, ids: () => leasedIds(table) };
    const found = commands.submit(request, leased, nowMs());
    if (found === 'other')
      throw new CodedError('REQUEST_INVALID', {
        message: `command ${request.id} is there with another content`,
      });
    if (found === 'full')
      throw new CodedError('OVERLOADED', {
        message: `too many commands of kind ${request.type} are alive here`,
      });
    ctx.status = found === 'new' ? 201 : 200;
    ctx.body = { id: request.id };
  });
  router.get('/commands/:id', (ctx) => {
    (ctx.state as RequestState).route = 'command-state';
    const id = ctx.params['id'] ?? '';
    const found = commands.state(id, leasedNodes(table), nowMs());
    if (found === undefined) throw new CodedError('COMMAND_UNKNOWN', { detail: { id: id.slice(0, 64) } });
    ctx.body = { id, ...found } satisfies CommandState;
  });
  router.delete('/commands/:id', (ctx) => {
    (ctx.state as RequestState).route = 'command-withdraw';
    commands.withdraw(ctx.params['id'] ?? '');
    ctx.status = 204;
  });
}

function* leasedIds(table: SwarmTable): Generator<string> {
  for (const { facts } of table.nodes()) yield facts.nodeId;
}

function* leasedNodes(table: SwarmTable): Generator<CommandNode> {
  for (const { facts } of table.nodes()) yield { nodeId: facts.nodeId, address: facts.addresses[0] };
}
