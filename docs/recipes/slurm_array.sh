#!/usr/bin/env bash
#SBATCH --job-name=banet
#SBATCH --array=0-99%20
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --requeue
#
# Segments what LIST names, one line per image, DICOM series folder or zip file, in a Slurm array:
#
#     sbatch [--array=0-N] slurm_array.sh LIST OUT [options of `banet segment`]
#
# Paths in LIST are relative to its folder. LIST is cut into parts of PART_SIZE lines (default 500); task k of n does the
# parts k, k + n, k + 2n, ... Each part is one `banet segment`: results and manifest.json in OUT/part-000000. A part
# that ended is not done again, so the way to resume is to submit again, with as many tasks as you like; a part that was
# cut short is begun anew. RETRY=1 also repeats the parts in which cases failed.
#
# Exit code of a task: 0 all its cases are done, 1 some failed (OUT/part-*/manifest.json says which and why), any other
# at once: 2 is wrong use. Run by hand, without Slurm, it is the only task.
set -euo pipefail

stop() { printf 'slurm_array.sh: %s\n' "$1" >&2; exit 2; }

[ "$#" -ge 2 ] || stop "usage: slurm_array.sh LIST OUT [options of banet segment]"
list=$1 out=$2
shift 2
[ -f "$list" ] || stop "there is no list '$list'"
size=${PART_SIZE:-500} retry=${RETRY:-0}
[ "$size" -ge 1 ] 2>/dev/null || stop "PART_SIZE is a number from 1, not '$size'"

count=${SLURM_ARRAY_TASK_COUNT:-1} first=${SLURM_ARRAY_TASK_MIN:-0} last=${SLURM_ARRAY_TASK_MAX:-0}
task=$((${SLURM_ARRAY_TASK_ID:-0} - first))
[ $((last - first + 1)) -eq "$count" ] || stop "submit an array without gaps, such as --array=0-99; done parts are skipped"

if bad=$(grep -nm1 -E '^/|(^|/)\.\.(/|$)' "$list"); then
    stop "line $bad: paths must be relative to the folder of the list and stay in it"
fi
root=$(cd "$(dirname "$list")" && pwd)
lines=$(grep -c '' "$list") || stop "the list '$list' is empty"
parts=$(((lines + size - 1) / size))

# The same list must be cut in the same way whenever it is taken up again.
work=$out/.parts
mkdir -p "$work"
sum="$size $(cksum <"$list")"
if [ ! -e "$work/list" ]; then
    printf '%s\n' "$sum" >"$work/list.$task"
    ln "$work/list.$task" "$work/list" 2>/dev/null || true # the task that comes first makes it
    rm "$work/list.$task"
fi
[ "$(cat "$work/list")" = "$sum" ] || stop "'$out' was begun with another list or PART_SIZE; name a new folder"
[ -e "$work/input" ] || ln -s "$root" "$work/input" 2>/dev/null || true

# Lines of one part as a data list: where the image is, and what its result is called (its suffix stays where two of the
# part would else share a name).
write_part() { # number file
    awk -v first=$(($1 * size)) -v size="$size" '
        function quoted(text) { gsub(/"/, "\"\"", text); return "\"" text "\"" }
        NR > first + size { exit }
        NR > first && NF {
            stem = $0
            sub(/\/+$/, "", stem)
            sub(/\.(nii(\.gz)?|png|jpe?g|tiff?|bmp|dcm|zip|NII(\.GZ)?|PNG|JPE?G|TIFF?|BMP|DCM|ZIP)$/, "", stem)
            images[++n] = $0
            stems[n] = stem
            times[tolower(stem)]++
        }
        END {
            print "image,name"
            for (k = 1; k <= n; k++)
                print quoted("input/" images[k]) "," quoted(times[tolower(stems[k])] > 1 ? images[k] : stems[k])
        }' "$list" >"$2.new"
    mv "$2.new" "$2"
}

[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}"
failed=0
for ((part = task; part < parts; part += count)); do
    name=$(printf 'part-%06d' "$part")
    ended=$work/$name.exit
    if [ -e "$ended" ] && { [ "$(cat "$ended")" = 0 ] || [ "$retry" != 1 ]; }; then
        [ "$(cat "$ended")" = 0 ] || failed=1
        continue
    fi
    rm -f "$ended"
    write_part "$part" "$work/$name.csv"
    printf '%s of %d\n' "$name" "$parts"
    code=0
    banet segment "$work/$name.csv" -o "$out/$name" --quiet "$@" || code=$?
    # 1 says that cases failed, or that the run broke off (no memory, no disk); only the first is an end
    if [ "$code" -gt 1 ] || grep -qs "the run ended before its turn" "$out/$name/manifest.json"; then
        printf 'slurm_array.sh: %s was cut short, banet ended with %d\n' "$name" "$code" >&2
        exit "$code"
    fi
    printf '%d\n' "$code" >"$ended"
    [ "$code" -eq 0 ] || failed=1
done
exit "$failed"
