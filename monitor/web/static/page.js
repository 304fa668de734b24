// The live view: asks every two seconds for what changed.
const status = document.getElementById("status");
const clock = (iso) => new Date(iso).toLocaleTimeString();

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function streamCard(stream) {
  const now = stream.playing.map((match) => element("div", `▶ ${match.reference_id} (${match.state})`));
  const level = stream.level_dbfs === null ? "" : ` · ${stream.level_dbfs.toFixed(0)} dBFS`;
  const reason = stream.reason ? ` (${stream.reason})` : "";
  return element("li", element("strong", stream.name), `${stream.state}${reason}${level}`, ...now);
}

function matchRow(match) {
  const cells = [
    clock(match.start_at), match.stream, match.title || match.reference_id, match.reference_start_s.toFixed(1),
    `${(match.end_s - match.start_s).toFixed(1)} s`, match.state,
  ];
  return element("tr", ...cells.map((cell) => element("td", cell)));
}

async function refresh() {
  try {
    const [{ streams }, { matches }] = await Promise.all([ask("/api/v1/streams"), ask("/api/v1/matches?limit=50")]);
    document.getElementById("streams").replaceChildren(...streams.map(streamCard));
    document.getElementById("matches").replaceChildren(...matches.map(matchRow));
    status.textContent = `${streams.filter((stream) => stream.up).length} of ${streams.length} streams heard`;
  } catch (error) {
    status.textContent = `the daemon does not answer (${error.message})`;
  }
  setTimeout(refresh, 2000);
}

refresh();
