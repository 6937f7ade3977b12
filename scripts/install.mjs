// Installs packages when, and only when, what is there is not what the lock file says. Plain JS: it must run under Node 20.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChild } from './child.mjs';
import { ROOT } from './node24.mjs';

const STAMP = join(ROOT, 'node_modules', '.sepia-stamp.json');
const HIDDEN_LOCK = join(ROOT, 'node_modules', '.package-lock.json');

/**
 * Makes sure that the packages of the lock file are there; `level` is `prod` or `all` (with development tools).
 * Nothing that is there is taken away: where development tools are found, they stay and are kept up.
 * @returns {Promise<number>} 0, or npm's exit code
 */
export async function ensureInstalled(level) {
  const lockText = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  const lockHash = createHash('sha256').update(lockText).digest('hex');
  const stamp = readJson(STAMP);
  if (stamp?.lock === lockHash && covers(stamp.level, level)) return 0;
  const found = levelFound(JSON.parse(lockText));
  if (found !== undefined && covers(found, level)) {
    writeStamp(lockHash, found);
    return 0;
  }
  const wanted = stamp?.level === 'all' || found === 'all' || hasDevTools() ? 'all' : level;
  const startedMs = Date.now();
  process.stderr.write(`sepia: installing packages${wanted === 'prod' ? '' : ' with development tools'} …\n`);
  const code = await npmInstall(wanted);
  if (code !== 0) {
    process.stderr.write(`sepia: npm failed (exit ${code}); nothing was started\n`);
    return code;
  }
  writeStamp(lockHash, wanted);
  process.stderr.write(`sepia: installed in ${((Date.now() - startedMs) / 1000).toFixed(1)} s\n`);
  return 0;
}

function covers(have, want) {
  return have === 'all' || have === want;
}

/** What an npm run by hand left: `all` or `prod` if every package of that level is there in the locked version. */
function levelFound(lock) {
  const hidden = readJson(HIDDEN_LOCK)?.packages;
  if (hidden === undefined) return undefined;
  const lacking = Object.entries(lock.packages).filter(([path, entry]) => {
    if (path === '' || entry.link === true || entry.optional === true || entry.peer === true) return false;
    if (!path.includes('node_modules/')) return false;
    return hidden[path]?.version !== entry.version || !existsSync(join(ROOT, path, 'package.json'));
  });
  const platformNode = join(ROOT, 'node_modules', `node-${process.platform}-${process.arch}`);
  if (
    lock.packages[`node_modules/node-${process.platform}-${process.arch}`] !== undefined &&
    !existsSync(platformNode)
  )
    return undefined;
  if (lacking.length === 0) return 'all';
  return lacking.every(([, entry]) => entry.dev === true || entry.devOptional === true) ? 'prod' : undefined;
}

function hasDevTools() {
  return existsSync(join(ROOT, 'node_modules', 'typescript'));
}

// Not `npm ci`: it refuses a lock file that a registry without every platform's optional packages has made.
async function npmInstall(level) {
  const args = [
    'install',
    '--no-save',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    ...(level === 'prod' ? ['--omit=dev'] : []),
  ];
  const env = { ...process.env, NODE_ENV: '' };
  const npm = process.env['npm_execpath'];
  const options = { cwd: ROOT, env, stdio: ['ignore', 2, 2] };
  if (npm !== undefined && /npm-cli\.[cm]?js$/.test(npm))
    return await runChild(process.execPath, [npm, ...args], options);
  return await runChild('npm', args, options);
}

function writeStamp(lock, level) {
  writeFileSync(`${STAMP}.tmp`, `${JSON.stringify({ lock, level })}\n`);
  renameSync(`${STAMP}.tmp`, STAMP);
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}
