// Runs a program in the foreground for another process. Plain JS: it must run under Node 20.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
const ORPHAN_POLL_MS = 500;

/**
 * Runs a program with our terminal; signals are handed on, and it learns our pid as its supervisor, so that it
 * ends even when we are killed. `options.followParent`: it is also ended when npm goes, which started us through a shell.
 * @returns {Promise<number>} its exit code, 128 + n after signal n
 */
export function runChild(command, args, options = {}) {
  const { followParent = false, onStart, ...spawnOptions } = options;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: 'inherit',
      ...spawnOptions,
      env: { ...(spawnOptions.env ?? process.env), SEPIA_SUPERVISOR: String(process.pid) },
    });
    const forward = (signal) => child.kill(signal);
    for (const signal of FORWARDED) process.on(signal, forward);
    const lineage = ancestors();
    const look = () => {
      if (ancestors() !== lineage) child.kill('SIGTERM');
    };
    const watch = followParent ? setInterval(look, ORPHAN_POLL_MS) : undefined;
    const end = (code) => {
      clearInterval(watch);
      for (const signal of FORWARDED) process.off(signal, forward);
      resolve(code);
    };
    child.on('error', (error) => {
      process.stderr.write(`sepia: ${command} cannot be started (${error.code ?? error.message})\n`);
      end(127);
    });
    child.on('close', (code, signal) => end(code ?? 128 + (constants.signals[signal] ?? 0)));
    onStart?.(child);
  });
}

/** Our parent and, where that is the shell that npm runs scripts with, its parent: another answer later means that npm is gone. */
function ancestors() {
  let npm = '';
  try {
    const stat = readFileSync(`/proc/${process.ppid}/stat`, 'utf8');
    const isShell = /^\d+ \((?:sh|dash|bash)\)/.test(stat);
    if (isShell) npm = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
  } catch {
    // Not Linux: the parent must do.
  }
  return `${process.ppid} ${npm}`;
}
