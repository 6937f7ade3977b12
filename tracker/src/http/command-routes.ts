import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { COMMAND_REQUEST, type CommandState } from '@sepia/cluster/api/commands';
import { TRACKER } from '@sepia/cluster/api/tracker';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { readJson } from '@sepia/http/signed';
import type { CommandBook, CommandNode } from '../commands/core/command-book.ts';
import type { SwarmTable } from '../swarms/core/swarm-table.ts';

interface CommandRouteDeps {
  readonly table: SwarmTable;
  readonly commands: CommandBook;
  readonly nowMs: () => number;
}

/** Signed routes for commands to nodes: take one, tell what became of it, withdraw it. */
export function commandRoutes(router: Router, deps: CommandRouteDeps): void {
  const { table, commands, nowMs } = deps;
  serve(router, TRACKER.command, async (ctx) => {
    const { maxBytes } = TRACKER.command.body;
    const request = await readJson(ctx, maxBytes, fits(COMMAND_REQUEST));
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
  serve(router, TRACKER.commandState, (ctx, { id }) => {
    const found = commands.state(id, leasedNodes(table), nowMs());
    if (found === undefined) throw new CodedError('COMMAND_UNKNOWN', { detail: { id: id.slice(0, 64) } });
    ctx.body = { id, ...found } satisfies CommandState;
  });
  serve(router, TRACKER.commandWithdraw, (ctx, { id }) => {
    commands.withdraw(id);
    ctx.status = 204;
  });
}

function* leasedIds(table: SwarmTable): Generator<string> {
  for (const { facts } of table.nodes()) yield facts.nodeId;
}

function* leasedNodes(table: SwarmTable): Generator<CommandNode> {
  for (const { facts } of table.nodes()) yield { nodeId: facts.nodeId, address: facts.addresses[0] };
}
