# What is tuned: every knob as a line `group|rule|file|wanted|why`, and how what is there is judged.
#
# Read by `apply`, `verify` and `revert`. Not here: changing anything. Invariant: a knob is a file below $ROOT that
# holds one line, and its rule alone decides whether it is met; what a host does not have is no knob of it.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ROOT=
# In a directory of its own: whoever may write what is put back may write it anywhere.
UNDO_DEFAULT=/var/lib/corelane-tuning/undo
GROUPS_KNOWN=net,host,memory,cpu,nic,boot

# sysctls GROUP: those of a group, as they stand in sysctl.d.
sysctls() {
    local group='' rule='' why='' line
    while IFS= read -r line; do
        if [[ $line =~ ^'# ['([a-z]+)'] '([a-z-]+)': '(.*)$ ]]; then
            group=${BASH_REMATCH[1]} rule=${BASH_REMATCH[2]} why=${BASH_REMATCH[3]}
        elif [[ $line =~ ^([a-z0-9_.-]+)' = '(.+)$ && $group == "$1" ]]; then
            knob "$group" "$rule" "/proc/sys/${BASH_REMATCH[1]//./\/}" "${BASH_REMATCH[2]}" "$why"
        fi
    done <"$HERE/sysctl.d/90-corelane.conf"
}

# knob GROUP RULE FILE WANTED WHY
knob() {
    local IFS='|'
    echo "$*"
}

# memory: how pages are made large.
memory() {
    local of=/sys/kernel/mm/transparent_hugepage
    knob memory choice "$of/enabled" madvise "only where a program asks: a core never waits for a large page to be made"
    knob memory choice "$of/defrag" madvise "the same for making room for them"
}

# cpus LIST: the numbers in a list such as 0-3,8.
cpus() {
    local part
    for part in ${1//,/ }; do
        seq "${part%-*}" "${part#*-}"
    done
}

# cpu: clocks and sleep of the CPUs in $CPUS.
cpu() {
    local number state latency
    for number in $(cpus "$CPUS"); do
        local of=/sys/devices/system/cpu/cpu$number
        if [[ -e $ROOT$of/cpufreq/scaling_governor ]]; then
            knob cpu exactly "$of/cpufreq/scaling_governor" performance "a core that wakes works at full speed at once"
        fi
        for state in "$ROOT$of"/cpuidle/state[0-9]*; do
            [[ -e $state/latency ]] || continue
            latency=$(<"$state/latency")
            if ((latency > LATENCY_US)); then
                knob cpu exactly "${state#"$ROOT"}/disable" 1 "to wake from it takes $latency us"
            fi
        done
    done
}

# mask LIST: the CPUs as the kernel wants masks, in words of 32 bits.
mask() {
    local number words=() index mask='' top=0
    for number in $(cpus "$1"); do
        index=$((number / 32))
        words[index]=$((${words[index]:-0} | (1 << (number % 32))))
        if ((index > top)); then top=$index; fi
    done
    for ((index = top; index >= 0; index--)); do
        mask+=$(printf '%08x,' "${words[index]:-0}")
    done
    mask=${mask%,}
    # Without zeros before the first digit, as the kernel prints it if there is one word.
    [[ $mask == *,* ]] || mask=$(printf '%x' "0x$mask")
    echo "$mask"
}

# nic: interrupts and queues of the card $NIC, one after the other over the CPUs in $CPUS.
nic() {
    [[ -n $NIC ]] || return 0
    local of=/sys/class/net/$NIC all=() index=0 queue irq number file
    mapfile -t all < <(cpus "$CPUS")
    for irq in $(ls "$ROOT$of/device/msi_irqs" 2>/dev/null | sort -n); do
        [[ -e $ROOT/proc/irq/$irq/smp_affinity_list ]] || continue
        file=/proc/irq/$irq/smp_affinity_list
        knob nic exactly "$file" "${all[index % ${#all[@]}]}" "an interrupt of $NIC stays on one CPU"
        index=$((index + 1))
    done
    local queues=("$ROOT$of"/queues/rx-*)
    for queue in "${queues[@]}"; do
        [[ -e $queue/rps_cpus ]] || continue
        file=${queue#"$ROOT"}/rps_cpus
        if ((${#queues[@]} < ${#all[@]})); then
            knob nic mask "$file" "$(mask "$CPUS")" "fewer queues than cores: a packet goes on to its connection's core"
            file=${queue#"$ROOT"}/rps_flow_cnt
            knob nic at-least "$file" $((32768 / ${#queues[@]})) "RFS: flows that this queue remembers"
        else
            knob nic mask "$file" 0 "a queue for each core: no packet changes its CPU"
        fi
    done
    if ((${#queues[@]} < ${#all[@]})); then
        knob nic at-least /proc/sys/net/core/rps_sock_flow_entries 32768 "RFS: flows that the host remembers"
    fi
    index=0
    for queue in "$ROOT$of"/queues/tx-*; do
        [[ -e $queue/xps_cpus ]] || continue
        number=${all[index % ${#all[@]}]}
        knob nic mask "${queue#"$ROOT"}/xps_cpus" "$(mask "$number")" "XPS: a core sends by a queue of its own"
        index=$((index + 1))
    done
}

# boot: what only the kernel's command line can say; verified, never changed, and only for CPUs that somebody named.
boot() {
    [[ -n $CPUS_NAMED ]] || return 0
    knob boot word /proc/cmdline "isolcpus=managed_irq,domain,$CPUS" "nobody else is put on these CPUs"
    knob boot word /proc/cmdline "nohz_full=$CPUS" "a core that works alone is not stopped 250 times a second"
    knob boot word /proc/cmdline "rcu_nocbs=$CPUS" "the kernel's own callbacks run elsewhere"
}

# knobs: all of the groups in $GROUPS_WANTED that this host has.
knobs() {
    local group line file
    for group in ${GROUPS_WANTED//,/ }; do
        case $group in
        net | host) sysctls "$group" ;;
        *) "$group" ;;
        esac
    done | while IFS= read -r line; do
        IFS='|' read -r _ _ file _ <<<"$line"
        # One that cannot be read is none of this host: so is XPS where there is one queue.
        if cat "$ROOT$file" >/dev/null 2>&1; then echo "$line"; fi
    done
}

# now FILE: what a knob is, with one blank between numbers.
now() {
    local line
    line=$(<"$ROOT$1") 2>/dev/null || line='?'
    echo "${line//$'\t'/ }"
}

# is_met RULE NOW WANTED
is_met() {
    local rule=$1 index
    local -a have want
    read -ra have <<<"$2" || true
    read -ra want <<<"$3" || true
    case $rule in
    exactly) [[ $2 == "$3" ]] ;;
    choice) [[ $2 == *"[$3]"* || $2 == "$3" ]] ;;
    word) [[ " $2 " == *" $3 "* ]] ;;
    # With or without zeros before it.
    mask) [[ $(sed 's/^[0,]*//' <<<"$2") == $(sed 's/^[0,]*//' <<<"$3") ]] ;;
    range) ((have[0] <= want[0] && have[1] >= want[1])) ;;
    at-least)
        for index in "${!want[@]}"; do
            ((${have[index]:-0} >= want[index])) || return 1
        done
        ;;
    *) refuse "no rule $rule" ;;
    esac
}

# merged RULE NOW WANTED: what is to be written: of several numbers none is lowered.
merged() {
    local index out=''
    local -a have want
    if [[ $1 != at-least ]]; then
        echo "$3"
        return
    fi
    read -ra have <<<"$2"
    read -ra want <<<"$3"
    for index in "${!want[@]}"; do
        out+=" $((${have[index]:-0} > want[index] ? ${have[index]:-0} : want[index]))"
    done
    echo "${out# }"
}

# shown FILE: what it is called.
shown() {
    case $1 in
    /proc/sys/*)
        local name=${1#/proc/sys/}
        echo "${name//\//.}"
        ;;
    *) echo "$1" ;;
    esac
}

# is_knob FILE: whether a file is one that these commands write.
is_knob() {
    [[ $1 != *..* && $1 =~ ^(/proc/sys/[a-z0-9_/-]+|/proc/irq/[0-9]+/smp_affinity_list)$ ||
        $1 =~ ^/sys/devices/system/cpu/cpu[0-9]+/(cpufreq/scaling_governor|cpuidle/state[0-9]+/disable)$ ||
        $1 =~ ^/sys/class/net/[^/]+/queues/[rt]x-[0-9]+/(rps_cpus|rps_flow_cnt|xps_cpus)$ ||
        $1 =~ ^/sys/kernel/mm/transparent_hugepage/(enabled|defrag)$ ]]
}

# refuse WORDS: ends with 2.
refuse() {
    echo "$*" >&2
    exit 2
}

# check_list: refuses a list of CPUs that is none, or names CPUs that are not there.
check_list() {
    local part last
    [[ $CPUS =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] ||
        refuse "--cpus: seen is $CPUS, allowed is a list such as 0-3,8"
    for part in ${CPUS//,/ }; do
        last=${part#*-}
        ((${part%-*} <= last)) || refuse "--cpus: $part ends before it begins"
        [[ -d $ROOT/sys/devices/system/cpu/cpu$last ]] || refuse "--cpus: there is no CPU $last on this host"
    done
}

# options ARGUMENT...: those that all three commands have; sets GROUPS_WANTED, CPUS, CPUS_NAMED, NIC, LATENCY_US, UNDO
# and REST.
options() {
    local group
    GROUPS_WANTED=$GROUPS_KNOWN CPUS='' NIC='' LATENCY_US=10 UNDO=$UNDO_DEFAULT REST=()
    while [[ $# -gt 0 ]]; do
        case $1 in
        --groups | --cpus | --nic | --latency-us | --undo | --root)
            [[ -n ${2:-} ]] || refuse "$1 wants a value; --help says which"
            case $1 in
            --groups) GROUPS_WANTED=$2 ;;
            --cpus) CPUS=$2 ;;
            --nic) NIC=$2 ;;
            --latency-us) LATENCY_US=$2 ;;
            --undo) UNDO=$2 ;;
            --root) ROOT=$2 ;;
            esac
            shift
            ;;
        *) REST+=("$1") ;;
        esac
        shift
    done
    for group in ${GROUPS_WANTED//,/ }; do
        [[ ,$GROUPS_KNOWN, == *",$group,"* ]] || refuse "--groups: there is no group $group; there are $GROUPS_KNOWN"
    done
    [[ $LATENCY_US =~ ^[0-9]+$ ]] || refuse "--latency-us: seen is $LATENCY_US, allowed is a number of microseconds"
    [[ -r $ROOT/sys/devices/system/cpu/online ]] || refuse "--root: $ROOT has no sys/devices/system/cpu/online"
    CPUS_NAMED=$CPUS
    [[ -n $CPUS ]] || CPUS=$(<"$ROOT/sys/devices/system/cpu/online")
    check_list
    if [[ -n $NIC && ! -e $ROOT/sys/class/net/$NIC ]]; then
        refuse "--nic: there is no $NIC; there are: $(ls "$ROOT/sys/class/net" | tr '\n' ' ')"
    fi
}

OPTIONS="\
  --groups LIST     of net (this network namespace), host, memory, cpu, nic, boot [default: all]
  --cpus LIST       the CPUs that cores run on, as in cores.list [default: all that are online; then boot is left out]
  --nic NAME        the network card whose interrupts and queues are spread over them [default: none]
  --latency-us N    sleep from which a CPU wakes later than this is not allowed [default: 10]
  --root DIR        a host's files below DIR, to try it out on a copy
  --help            print this and end"
