import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileImage, pushFileImage } from '@sepia/test-support/clients/file-image';
import { pullImage } from '@sepia/test-support/clients/registry-client';
import { bytesOf } from '@sepia/test-support/seeded';
import { Up } from '@sepia/test-support/up';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { chromium, type Page } from 'playwright-core';
import t from 'tap';

const CHROMIUM = '/usr/bin/chromium';
const MIB = 1024 * 1024;
/** For what the page shows in the end, in ms. */
const WAIT_MS = 90_000;
/** Chromium without what would look for hosts outside. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

const skip = existsSync(CHROMIUM) ? false : 'needs Chromium';

/** Shows a page to `look` in a browser of its own. Resolves with what its console complained of. */
async function inBrowser(url: string, look: (page: Page) => Promise<void>): Promise<readonly string[]> {
  const profile = mkdtempSync('/tmp/sepia-page-');
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    args: FLAGS,
  });
  const complaints: string[] = [];
  try {
    const page = await browser.newPage();
    page.setDefaultNavigationTimeout(WAIT_MS);
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(url);
    await look(page);
  } finally {
    await browser.close();
    rmSync(profile, { recursive: true, force: true });
  }
  return complaints;
}

t.test('the page shows members, and a swarm that fills in live', { skip, timeout: 400_000 }, async (t) => {
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  upstream.misbehave({ kind: 'blob', does: { type: 'slow', bytesPerSec: 6 * MIB } });
  const image = makeImage({ layers: [40 * MIB], seed: 'page' });
  upstream.push('team/app', image, 'v1');
  await using up = await Up.start(join(t.testdir(), 'data'), [
    '--agents',
    '3',
    '--upstream',
    `up=${upstream.url}`,
    '--ports-from',
    '30000',
  ]);
  const complaints = await inBrowser(`${up.cluster.proxies[0]!.url}/ui/`, async (page) => {
    await page.locator('#members tr').nth(6).waitFor({ timeout: WAIT_MS });
    const pulls = Promise.all(up.cluster.agents.map((agent) => pullImage(agent.url, 'team/app', 'v1')));
    await page.locator('#swarms canvas').first().waitFor({ timeout: WAIT_MS });
    const shot = process.env['SEPIA_PAGE_SHOT'];
    if (shot !== undefined) {
      await page.waitForTimeout(3_000);
      await page.screenshot({ path: shot, fullPage: true });
    }
    await pulls;
    await page.locator('#peer-bytes', { hasText: /[1-9].*B/ }).waitFor({ timeout: WAIT_MS });
    const over = page.locator('.swarm.over .tag', { hasText: /^all have it, \d+ s ago$/ });
    await over.first().waitFor({ timeout: WAIT_MS });
    const agent = page.locator('#members tr', { hasText: 'agent-1' });
    await agent.locator('td', { hasText: /[1-9].* MiB$/ }).waitFor({ timeout: WAIT_MS });
    t.match(await agent.locator('td').nth(4).textContent(), /^\d+ (s|min)$/, 'how long it is up');
  });
  t.same(complaints, [], 'no errors in the console');
  t.equal(await up.stop(), 0);
});

t.test("an accelerator's page shows a conversion that goes on", { skip, timeout: 400_000 }, async (t) => {
  const data = join(t.testdir(), 'data');
  mkdirSync(join(data, 'overrides'), { recursive: true });
  writeFileSync(join(data, 'overrides/accelerator.yaml'), 'api: { read: anyone }\nscan: 2s\n');
  await using up = await Up.start(data, ['--agents', '1', '--accelerate', '--ports-from', '31000']);
  const [proxy] = up.cluster.proxies;
  const complaints = await inBrowser(`${up.cluster.accelerators[0]!.url}/ui/`, async (page) => {
    await page.locator('#summary', { hasText: '0 open' }).waitFor({ timeout: WAIT_MS });
    t.ok(await page.locator('#none').isVisible(), 'it says how to begin');
    await pushFileImage(proxy!.url, 'team/app', 'v1', fileImage(bytesOf(96 * MIB, 5)));
    const row = page.locator('#jobs tr', { hasText: 'team/app:v1' });
    await row.locator('progress').first().waitFor({ timeout: WAIT_MS });
    await page.locator('#summary', { hasText: '1 done' }).waitFor({ timeout: WAIT_MS });
    const cells = await row.locator('td').allInnerTexts();
    t.match(cells[2], /^done$/);
    t.match(cells[3], /^9\d(\.\d)? MiB$/, 'before');
    t.match(cells[4], /^9\d(\.\d)? MiB \(\d+%\)$/, 'after');
    t.match(cells[5], /team\/app:v1-estargz/);
    t.notOk(await page.locator('#none').isVisible());
  });
  t.same(complaints, [], 'no errors in the console');
  t.equal(await up.stop(), 0);
});
