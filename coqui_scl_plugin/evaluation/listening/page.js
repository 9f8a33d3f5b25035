"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const questions = content.questions;
  const storageKey = `coqui-scl-listen-${content.page}`;
  const byId = (id) => document.getElementById(id);
  const every = (selector) => [...document.querySelectorAll(selector)];
  const asked = {
    similarity: "Which sample is the person in the reference?",
    naturalness: "Which sample sounds more natural?",
  };
  const names = { reference: "the reference", 1: "sample 1", 2: "sample 2" };

  // --- what is kept: the listener, the answers and the place -----------------------------------------------------

  const fresh = () => ({ listener: "", answers: questions.map(() => null), at: 0, keys: true });

  function restored() {
    try {
      const kept = JSON.parse(localStorage.getItem(storageKey));
      if (kept && kept.answers.length === questions.length) return kept;
    } catch (error) {
      byId("storage").hidden = false;
    }
    return fresh();
  }

  function keep() {
    try {
      localStorage.setItem(storageKey, JSON.stringify(state));
    } catch (error) {
      byId("storage").hidden = false;
    }
  }

  let state = restored();
  let started = false;

  // --- playing ---------------------------------------------------------------------------------------------------

  const player = new Audio();
  let waiting = []; // clips of the question that play after this one
  let playing = null;
  let heard = new Set();

  const inQuestion = () => started && state.at < questions.length;
  const clipsOf = (question) => (question.reference === null ? ["1", "2"] : ["reference", "1", "2"]);
  const unheard = () => clipsOf(questions[state.at]).filter((clip) => !heard.has(clip));

  function source(question, clip) {
    const number = clip === "reference" ? question.reference : question.samples[clip - 1];
    const bytes = Uint8Array.from(atob(content.clips[number]), (letter) => letter.charCodeAt(0));
    return URL.createObjectURL(new Blob([bytes], { type: "audio/flac" }));
  }

  function stop() {
    player.pause();
    waiting = [];
    playing = null;
    showPlayers();
  }

  function halt() {
    stop();
    if (inQuestion()) showHint();
  }

  function play(clips, question = questions[state.at]) {
    stop();
    byId("hint").textContent = ""; // a screen reader would speak over the recording
    [playing, ...waiting] = clips;
    URL.revokeObjectURL(player.src);
    player.src = source(question, playing);
    player.play().catch((error) => {
      if (error.name !== "AbortError") failed();
    });
    showPlayers();
  }

  function failed() {
    stop();
    const message = "This browser cannot play the recording. Try a current Firefox, Chrome, Edge or Safari.";
    if (inQuestion()) byId("hint").textContent = message;
    else alert(message);
  }

  player.addEventListener("error", () => {
    if (playing) failed();
  });
  player.addEventListener("ended", () => {
    heard.add(playing);
    if (waiting.length > 0) {
      play(waiting);
    } else {
      halt();
    }
  });

  // --- what is shown ---------------------------------------------------------------------------------------------

  function showPlayers() {
    for (const button of every(".play")) {
      const clip = button.dataset.clip;
      const name = clip === "reference" ? "Reference" : `Sample ${clip}`;
      const isPlaying = playing === clip;
      button.classList.toggle("playing", isPlaying);
      button.textContent = isPlaying ? `■ ${name}` : `▶ ${name}${heard.has(clip) ? " ✓" : ""}`;
      button.setAttribute("aria-label", isPlaying ? `Stop ${name}` : `Play ${name}${heard.has(clip) ? ", heard" : ""}`);
    }
    byId("all").textContent = playing ? "■ Stop" : "▶ Play all";
    byId("volume").textContent = playing ? "Stop" : "Test the volume";
    const early = inQuestion() && unheard().length > 0;
    for (const button of every(".answer")) button.setAttribute("aria-disabled", early);
  }

  function showHint(prefix = "") {
    const left = unheard().map((clip) => names[clip]);
    const toDo = left.length > 0 ? `Still to hear: ${left.join(", ")}.` : "Choose sample 1 or sample 2.";
    byId("hint").textContent = prefix + toDo;
  }

  function show() {
    stop();
    byId("start").hidden = started;
    byId("question").hidden = !inQuestion();
    byId("end").hidden = !started || inQuestion();
    if (!started) showStart();
    else if (inQuestion()) showQuestion(questions[state.at]);
    else showEnd();
  }

  function showStart() {
    const answered = state.answers.filter((answer) => answer !== null).length;
    byId("listener").value = state.listener;
    byId("keys").checked = state.keys;
    byId("begin").textContent = answered > 0 ? "Continue" : "Start";
    byId("resumed").textContent = answered > 0 ? `${answered} of ${questions.length} questions are answered.` : "";
  }

  function showQuestion(question) {
    const answer = state.answers[state.at];
    heard = new Set(answer === null ? [] : clipsOf(question)); // an answered question was heard
    const part = question.part === "similarity" ? "Part 1 of 2, who is it?" : "Part 2 of 2, how natural is it?";
    byId("place").textContent = `${part} Question ${state.at + 1} of ${questions.length}`;
    byId("progress").value = state.at;
    byId("asked").textContent = asked[question.part];
    every('.play[data-clip="reference"]')[0].hidden = question.reference === null;
    for (const button of every(".answer")) button.setAttribute("aria-pressed", button.dataset.answer === String(answer));
    byId("back").disabled = state.at === 0;
    byId("on").disabled = answer === null;
    showPlayers();
    showHint();
    byId("asked").focus();
  }

  function showEnd() {
    byId("text").value = answersFile();
    byId("done").focus();
  }

  // --- what a listener does --------------------------------------------------------------------------------------

  function answer(sample) {
    if (unheard().length > 0) {
      showHint("Listen to everything first. ");
      return;
    }
    state.answers[state.at] = sample;
    go(1);
  }

  function go(steps) {
    const next = state.at + steps;
    if (next < 0 || (steps > 0 && state.answers[state.at] === null)) return;
    state.at = next;
    keep();
    show();
  }

  function playOrStop() {
    if (playing) halt();
    else play(unheard().length > 0 ? unheard() : clipsOf(questions[state.at]));
  }

  function answersFile() {
    const { listener, answers } = state;
    return JSON.stringify({ format: "coqui-scl listening answers", page: content.page, listener, answers });
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([answersFile()], { type: "application/json" }));
    link.download = `answers-${state.listener.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  for (const button of every(".play")) {
    button.addEventListener("click", () => (playing === button.dataset.clip ? halt() : play([button.dataset.clip])));
  }
  for (const button of every(".answer")) button.addEventListener("click", () => answer(Number(button.dataset.answer)));
  for (const button of every(".save")) button.addEventListener("click", save);
  byId("all").addEventListener("click", playOrStop);
  byId("back").addEventListener("click", () => go(-1));
  byId("on").addEventListener("click", () => go(1));
  byId("again").addEventListener("click", () => go(-1));
  byId("volume").addEventListener("click", () => (playing ? halt() : play(["1"], questions[0])));
  byId("another").addEventListener("click", () => {
    if (!confirm(`The answers of ${state.listener} will be removed from this browser. Have they been saved?`)) return;
    state = fresh();
    started = false;
    keep();
    show();
  });
  byId("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const listener = byId("listener").value.trim();
    if (!listener) return;
    state.listener = listener;
    state.keys = byId("keys").checked;
    started = true;
    keep();
    show();
  });

  document.addEventListener("keydown", (event) => {
    if (!inQuestion() || !state.keys || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.key === " ") {
      if (event.target.closest("button")) return; // presses the button
      event.preventDefault(); // scrolls otherwise
      playOrStop();
    } else if (event.key === "1" || event.key === "2") {
      answer(Number(event.key));
    } else if (event.key.toLowerCase() === "r") {
      play(questions[state.at].reference === null ? ["1", "2"] : ["reference"]);
    } else if (event.key === "ArrowLeft") {
      go(-1);
    } else if (event.key === "ArrowRight") {
      go(1);
    }
  });

  show();
})();
