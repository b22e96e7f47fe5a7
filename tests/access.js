// What a page lacks for those who see little, or read it by keyboard or ear (WCAG 2.2: 1.1.1, 1.4.3, 2.4.6, 4.1.2).
const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
const over = ([r, g, b, a], under) => [r, g, b].map((own, n) => a * own + (1 - a) * under[n]);
const light = (rgb) => rgb.map((own) => own / 255).map((own) => (own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4))
  .reduce((sum, own, n) => sum + own * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (element) => {
  const layers = [];
  for (let own = element; own; own = own.parentElement) layers.push(parse(getComputedStyle(own).backgroundColor));
  return layers.reverse().reduce((under, own) => over(own, under), [255, 255, 255]);
};
const faint = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  // What stands on a coloured cell or bar has a colour that plotly takes for it.
  const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || element.closest("script, style, title, #confusion .textpoint, #pair, .bartext-inside, [disabled]") || !element.checkVisibility()) continue;
  const look = getComputedStyle(element), under = ground(element);
  const ink = parse(element.ownerSVGElement ? look.fill : look.color);
  ink[3] *= Number(look.opacity) * (element.ownerSVGElement ? Number(look.fillOpacity) : 1);
  const [a, b] = [light(over(ink, under)), light(under)], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(look.fontSize), large = size >= 24 || (size >= 18.6 && Number(look.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) faint.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)} ${look.fontSize} ${element.tagName}.${element.getAttribute("class")}`);
}
const named = (own) => own.getAttribute("aria-label") || own.textContent.trim() || own.title || own.labels?.length || own.closest("label");
const nameless = [...document.querySelectorAll("button, input, select, textarea, a[href], [role=img], audio")].filter((own) => !named(own)).map((own) => own.outerHTML.slice(0, 120));
const blind = [...document.querySelectorAll("img:not([alt])")].map((own) => own.outerHTML.slice(0, 80));
const scheme = getComputedStyle(document.body).backgroundColor;
const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter((own) => own.checkVisibility()).map((own) => Number(own.tagName[1]));
const jumps = levels.filter((own, n) => own > (levels[n - 1] ?? 0) + 1);
return { scheme, faint: [...new Set(faint)], nameless, blind, jumps, lang: document.documentElement.lang, title: document.title };
