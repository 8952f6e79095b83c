"""The table of codes.  Each row has a page in `explain/`, whose bad example a test compiles.

0xx text and syntax, 1xx names and attributes, 2xx shapes, 3xx rates, 4xx levels and codecs,
5xx couplings and masks, 6xx queries, 7xx training, 8xx constructs without a runtime and, from 850
on, what is wrong outside of a spec, 9xx lints.
"""

from __future__ import annotations

from wmdsl.record import record


@record
class Code:
    """One kind of mistake: a title of a few words and its meaning in one line."""

    code: str
    title: str
    meaning: str
    severity: str = "error"


_ROWS = (
    # text and syntax
    Code("WM001", "file cannot be read", "The file is missing, a folder, or not readable."),
    Code("WM002", "binary file", "The file holds zero bytes, so it is not a text."),
    Code("WM003", "not UTF-8", "The file is text in another encoding than UTF-8."),
    Code("WM004", "file too large", "A spec is at most 1 MiB; real ones have a few kilobytes."),
    Code("WM005", "no model", "The file declares no model."),
    Code("WM006", "character without a place", "The language does not use this character."),
    Code("WM007", "string not closed", "A text ends at the end of its line."),
    Code("WM008", "bracket not closed", "An opening brace or bracket has no partner."),
    Code("WM009", "bracket closes nothing", "A closing brace or bracket has no partner."),
    Code("WM010", "misspelt keyword", "A word stands where a keyword of the language must stand."),
    Code("WM011", "malformed head", "The head of a declaration does not follow its form."),
    Code("WM012", "malformed value", "An attribute or a value is not written as one."),
    Code("WM013", "malformed attend row", "An attend row says neither who sees whom nor an order."),
    Code("WM014", "malformed entry", "A param, when, drop, override or assert is not well formed."),
    Code("WM015", "malformed file", "At file level stand the edition, imports and models only."),
    Code("WM016", "entries run together", "Two entries stand on one line without `;` between."),
    Code("WM017", "unknown edition", "This compiler does not know the edition of the file."),
    Code("WM018", "number out of range", "A number has an absurd size or too many digits."),
    Code("WM019", "nested too deeply", "Brackets stand inside each other more than 32 deep."),
    Code("WM020", "too many syntax errors", "Only the first fifty syntax errors are shown."),
    # names and attributes
    Code("WM101", "import cannot be used", "An imported file is missing or is no text."),
    Code("WM102", "import cycle", "Files import each other, or a file imports itself."),
    Code("WM103", "unknown model", "No model of this name is declared or imported."),
    Code("WM104", "extends cycle", "A model extends itself, directly or through others."),
    Code("WM105", "declared twice", "Two declarations of one form have one name."),
    Code("WM106", "nothing to override", "`override` names what no earlier model declares."),
    Code("WM107", "nothing to drop", "`drop` names what no earlier model declares."),
    Code("WM108", "unknown parameter", "A value is given to a parameter that is not declared."),
    Code("WM109", "outside the domain", "A parameter has a value that its domain excludes."),
    Code("WM110", "wrong kind of value", "A parameter's value has another unit than its default."),
    Code("WM111", "attribute given twice", "One declaration gives one attribute twice."),
    Code("WM112", "not importable", "The imported model has no such declaration of this form."),
    Code("WM113", "unknown import", "`alias.name` uses an alias that no import declares."),
    Code("WM114", "name of a parameter", "A declaration has the name of a parameter."),
    Code("WM115", "parameter inside `when`", "Parameters are declared outside of `when` only."),
    Code("WM120", "unknown name", "A name refers to nothing that is declared."),
    Code("WM121", "unknown attribute", "A declaration of this form or kind has no such attribute."),
    Code("WM122", "something is missing", "A declaration lacks its head or a needed attribute."),
    Code("WM123", "unknown word", "A word is none of those that may stand here."),
    Code("WM124", "wrong kind of value", "An attribute has a value of another type than it takes."),
    Code("WM125", "wrong unit", "A quantity has no unit, or one that does not belong here."),
    Code("WM126", "out of range", "A number lies outside of what its attribute takes."),
    Code("WM127", "comma before an entry", "A comma stands where `;` or a line break must stand."),
    Code("WM128", "another kind of thing", "A name refers to a declaration of another form."),
    Code("WM130", "listed twice", "A list names the same thing twice."),
    Code("WM131", "nobody reads it", "A stream or segment is declared and never read."),
    Code("WM132", "never used", "A codec or extern is declared and never used."),
    Code("WM133", "name shared", "Things that stand in the same places have one name."),
    Code("WM140", "not in the data set", "The data set lacks a column or camera of the spec."),
    # shapes
    Code("WM201", "wrong number of sizes", "A type, call or codec has too few or too many sizes."),
    Code("WM202", "sizes contradict", "Two places give one size differently."),
    Code("WM203", "does not divide", "A frame or clip does not divide into a codec's cells."),
    Code("WM204", "heads against width", "The number of heads does not divide the width."),
    Code("WM205", "key heads against heads", "The key heads do not divide the heads."),
    Code("WM206", "head dim against RoPE", "Rotary positions cannot split the head dim."),
    Code("WM207", "joined trunks differ", "Trunks that attend as one differ in depth or heads."),
    Code("WM208", "token counts differ", "Tokens that meet one by one differ in number."),
    Code("WM209", "widths differ", "Features that meet differ in width."),
    Code("WM210", "no such block", "A layer lies outside of the trunk."),
    Code("WM220", "shape against data", "The data set holds a stream in another shape."),
    # rates
    Code("WM301", "impossible rate", "A rate is zero or negative."),
    Code("WM302", "rate needed", "Seconds of a stream whose rate is not declared."),
    Code("WM303", "not whole samples", "A length in seconds is no whole number of samples."),
    Code("WM304", "rates without ratio", "Two streams' rates have no whole ratio."),
    Code("WM305", "chunk against frames", "An action chunk does not divide over the frames."),
    Code("WM306", "executes too much", "More steps are executed than predicted."),
    Code("WM307", "no time axis", "Segments of a stream that has no time axis."),
    Code("WM320", "faster than recorded", "A stream wants more samples than were recorded."),
    Code("WM321", "rate against data", "A stream's rate is no whole part of the data set's."),
    # levels and codecs
    Code("WM401", "codec needed", "A stream cannot become tokens without a codec."),
    Code("WM402", "codec cannot read it", "A codec does not read streams of this modality."),
    Code("WM403", "no way back", "Generated tokens cannot be turned back into data."),
    Code("WM404", "objective against codec", "The objective does not fit the codec's tokens."),
    Code("WM405", "clip-wide codec leaks", "A clip-wide codec carries the future into the past."),
    # couplings and masks
    Code("WM501", "impossible join", "A join needs two trunks, and a trunk one join."),
    Code("WM502", "not among the tokens", "A name stands in no trunk, or not in this one."),
    Code("WM503", "row across spaces", "An attend row is about tokens that never meet."),
    Code("WM504", "group without a row", "An attend leaves a token group out."),
    Code("WM505", "rows contradict", "Two rows of an attend contradict each other."),
    Code("WM506", "cycle", "An edge closes a cycle: something is needed before itself."),
    Code("WM507", "mechanism against target", "The target cannot take this conditioning."),
    Code("WM508", "impossible hand-over", "A hand-over has nothing to give or nobody to take."),
    Code("WM509", "trunk without use", "Nothing uses what a trunk puts out."),
    Code("WM510", "true future read", "A generated future is read before it is known."),
    Code("WM511", "never reaches", "A condition or observation influences nothing that is sought."),
    Code("WM512", "assertion fails", "What an assertion promises does not hold."),
    # queries
    Code("WM601", "nothing generates it", "A query seeks what nothing generates."),
    Code("WM602", "cannot be sought", "A query seeks what is observed or given."),
    Code("WM603", "cannot be answered", "The graph does not answer a declared query."),
    Code("WM604", "sampler against objective", "A sampler does not fit the objective."),
    Code("WM605", "cannot be pinned", "A segment cannot be held at pure noise."),
    Code("WM606", "setting without use", "A setting is about something the query does not do."),
    # training
    Code("WM701", "loss on an observation", "A loss on what is known already."),
    Code("WM702", "generated twice", "Two generates own one segment."),
    Code("WM703", "nothing predicts it", "A loss on a segment that stands in no trunk."),
    Code("WM704", "predicted in several", "A generated segment stands in several trunks."),
    Code("WM705", "future without a loss", "A future is neither trained nor given."),
    Code("WM706", "tokens alike", "Generated tokens have no places, so all get one answer."),
    Code("WM707", "guard needed", "A gradient into the target without a guard."),
    Code("WM708", "training contradicts", "Two settings of training contradict each other."),
    Code("WM709", "not causal", "Autoregressive tokens see what they must predict."),
    Code("WM710", "nothing to change from", "A change needs a sample before it that is seen."),
    # constructs without a runtime
    Code("WM801", "modality without a runtime", "Streams of this modality cannot run yet."),
    Code("WM802", "codec without a runtime", "Codecs of this kind cannot run yet."),
    Code("WM804", "coupling without a runtime", "This coupling cannot run yet."),
    Code("WM805", "objective without a runtime", "This objective cannot run yet."),
    Code("WM806", "law without a runtime", "This law, sampler or guard cannot run yet."),
    Code("WM807", "attribute without a runtime", "This attribute cannot run yet."),
    Code("WM808", "form without a runtime", "Declarations of this form cannot run yet."),
    Code("WM809", "slice without a runtime", "A slice of a segment can be read, not generated."),
    Code("WM810", "rate not known", "A stream without a declared rate can be planned, not run."),
    Code("WM811", "combination without a runtime", "These parts cannot run together yet."),
    Code("WM812", "no log-density", "The answers to a query have no log-density."),
    Code("WM813", "nothing to train", "A model predicts nothing, so that there is no loss."),
    # what is wrong outside of a spec: data, simulators, runs, the machine
    Code("WM851", "data set missing", "A data set, or a file of it, is missing."),
    Code("WM852", "data set unreadable", "A file of a data set cannot be read."),
    Code("WM853", "metadata contradict", "The metadata of a data set is incomplete or wrong."),
    Code("WM854", "no such column", "A data set has no such camera or feature."),
    Code("WM855", "not finite", "A data set holds values that are not finite."),
    Code("WM856", "rate against data set", "A rate does not fit the rate of the data set."),
    Code("WM857", "shape against data set", "A column has another shape than was asked for."),
    Code("WM858", "instruction too long", "An instruction is longer than its stream."),
    Code("WM859", "cannot be written", "A file of a data set cannot be written."),
    Code("WM860", "output folder taken", "The output folder holds something else."),
    Code("WM861", "expert fails", "The scripted expert fails too often."),
    Code("WM862", "nothing to draw from", "A window or sampler is asked for something empty."),
    Code("WM863", "worker died", "A worker process died."),
    Code("WM865", "unknown environment", "No environment has this name."),
    Code("WM866", "simulator missing", "A simulator, its assets or its graphics are missing."),
    Code("WM871", "run missing", "A run directory, or a file of it, is missing."),
    Code("WM872", "run of another spec", "A run belongs to another spec, or to other settings."),
    Code("WM873", "weights do not fit", "A checkpoint does not fit the model."),
    Code("WM874", "loss not finite", "The loss became infinite or not a number."),
    Code("WM875", "run cannot be written", "A file of a run cannot be written."),
    Code("WM876", "run directory taken", "A run, or a file, stands where a run is to be."),
    Code("WM877", "environment against model", "A model and an environment do not fit."),
    Code("WM878", "query of a run", "A query is not declared, or not answerable."),
    Code("WM879", "job failed", "A job of a comparison failed."),
    Code("WM880", "weights not chosen", "Nothing says what becomes of pretrained weights."),
    Code("WM881", "pretrained weights missing", "A checkpoint is missing or cannot be read."),
    Code("WM882", "pretrained weights do not fit", "A checkpoint has other sizes than the spec."),
    Code("WM883", "nothing to learn from", "No sample of the data has what a loss term predicts."),
    Code("WM884", "data set lacks a stream", "What no data set records is zero, and teaches "
         "nothing.", "warning"),
    Code("WM885", "session cannot act", "A session is to act in a way that its query cannot."),
    Code("WM886", "no such baseline", "A run is not the baseline that it is given as."),
    Code("WM887", "setting out of range", "A number or a word given to a command cannot be."),
    # lints
    Code("WM901", "unused parameter", "No value and no `when` names the parameter.", "warning"),
    Code("WM902", "unused import", "Nothing of the imported file is used.", "warning"),
    Code("WM910", "horizons differ", "Actions and frames reach differently far.", "warning"),
    Code("WM911", "inherited in vain", "A base model's codec is not used.", "warning"),
    Code("WM912", "weight without effect", "A loss term of weight 0 is never felt.", "warning"),
)  # fmt: skip

CODES = {row.code: row for row in _ROWS}
