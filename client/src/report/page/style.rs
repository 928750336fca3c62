//! How the page looks.

pub(super) const STYLE: &str = "
:root{--bg:#fbfaf7;--card:#fff;--ink:#1d2329;--soft:#5c6670;--line:#dfdcd3;--good:#1a7f5a;--good-bg:#e4f4ec;\
--bad:#b3261e;--bad-bg:#fbe9e7;--accent:#2457a6;--bar:#c9d6ea}
@media (prefers-color-scheme:dark){:root{--bg:#14181c;--card:#1c2228;--ink:#e6e9ec;--soft:#9aa5af;--line:#313a42;\
--good:#5cc79a;--good-bg:#16352a;--bad:#ff8a80;--bad-bg:#3d1f1d;--accent:#8ab4f8;--bar:#34475f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--bg);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;overflow-wrap:break-word}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0}
h2{font-size:1.3rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.4rem 0 .4rem;color:var(--soft)}
p{margin:.4rem 0}
a{color:var(--accent)}
code{font:.86em ui-monospace,'DejaVu Sans Mono',Menlo,monospace;overflow-wrap:anywhere}
.soft,small{color:var(--soft)}
.eyebrow{letter-spacing:.08em;text-transform:uppercase;font-size:.78rem;color:var(--soft);margin:0}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin:.8rem 0;font-size:.92rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.8rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
.tile b{display:block;font-size:1.55rem;line-height:1.2}
.tile.bad b{color:var(--bad)}.tile.good b{color:var(--good)}
.caution{border-left:4px solid var(--accent);background:var(--card);padding:.7rem 1rem;margin:1rem 0;border-radius:0 .5rem .5rem 0}
.finding{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--good);border-radius:.5rem;\
padding:.6rem .9rem;margin:.5rem 0;break-inside:avoid}
.finding.bad{border-left-color:var(--bad)}
.finding header{display:flex;gap:.7rem;align-items:baseline;justify-content:space-between;flex-wrap:wrap}
.finding h4{margin:0;font-size:1rem}
.finding p{margin:.25rem 0;font-size:.94rem}
.badge{font-size:.78rem;font-weight:600;padding:.1rem .55rem;border-radius:1rem;white-space:nowrap;\
color:var(--good);background:var(--good-bg)}
.badge.bad{color:var(--bad);background:var(--bad-bg)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;background:var(--card)}
th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-size:.8rem;color:var(--soft);font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:1rem 0;background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem;break-inside:avoid}
figcaption{font-size:.88rem;color:var(--soft);margin-bottom:.4rem}
svg{display:block;width:100%;height:auto;max-height:24rem}
svg text{fill:var(--ink);font:12px system-ui,'DejaVu Sans',sans-serif}
svg .soft{fill:var(--soft)}svg .axis{stroke:var(--line)}svg .good{fill:var(--good)}svg .bad{fill:var(--bad)}
svg .bar{fill:var(--bar)}svg .line{stroke:var(--accent);fill:none;stroke-width:2}svg .goal{stroke:var(--bad);stroke-dasharray:5 4}
svg .dot{fill:var(--accent)}
@media (max-width:40rem){body{padding:.9rem}h1{font-size:1.5rem}
table.cards thead{display:none}table.cards tr{display:block;border-bottom:2px solid var(--line);padding:.4rem 0}
table.cards td{display:flex;justify-content:space-between;gap:1rem;border:0;padding:.15rem .4rem;text-align:right}
table.cards td::before{content:attr(data-name);color:var(--soft);text-align:left}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--good:#0b5d3d;--good-bg:#fff;--bad:#9a1710;\
--bad-bg:#fff;--accent:#123a75;--bar:#ccc}body{max-width:none;padding:0;font-size:10.5pt}nav{display:none}\
table{font-size:8.5pt}th{font-size:7.5pt}th,td{padding:.25rem .4rem}.scroll{overflow:visible}\
.tiles,.caution{break-inside:avoid}svg{max-height:13rem}h2,h3,figcaption{break-after:avoid}.badge{border:1px solid currentColor}details::details-content{content-visibility:visible;height:auto}tr{break-inside:avoid}a{text-decoration:none}}
";
