import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pullImage } from '@sepia/test-support/clients/registry-client';
import { Up } from '@sepia/test-support/up';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { chromium } from 'playwright-core';
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

t.test(
  'the page shows members, and a swarm that fills in live',
  { skip: existsSync(CHROMIUM) ? false : 'needs Chromium', timeout: 400_000 },
  async (t) => {
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
    const profile = mkdtempSync('/tmp/sepia-page-');
    const browser = await chromium.launchPersistentContext(profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: FLAGS,
    });
    try {
      const page = await browser.newPage();
      const complaints: string[] = [];
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      page.on('pageerror', (error) => complaints.push(String(error)));
      await page.goto(`${up.cluster.proxies[0]!.url}/ui/`);
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
      t.same(complaints, [], 'no errors in the console');
    } finally {
      await browser.close();
      rmSync(profile, { recursive: true, force: true });
    }
    t.equal(await up.stop(), 0);
  },
);
