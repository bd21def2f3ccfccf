//! The guest's address ranges do not overlap, and keep the distances that compiled code relies on.

use sandgrain_abi::layout as l;

#[test]
fn ranges_are_apart_and_in_order() {
    let ranges = [
        ("gate data", l::GATE_DATA, l::GATE_DATA + l::GATE_DATA_PAGES * l::PAGE_SIZE),
        ("mailbox", l::MAILBOX, l::MAILBOX + l::MAILBOX_SIZE),
        ("trap record", l::TRAP_RECORD, l::TRAP_RECORD + l::PAGE_SIZE),
        ("runtime", l::RUNTIME, l::RUNTIME_END),
        ("stack", l::STACK_TOP - l::STACK_MAX, l::STACK_TOP),
        ("trap stack", l::TRAP_STACK_TOP - l::TRAP_STACK_SIZE, l::TRAP_STACK_TOP),
        ("heap", l::HEAP, l::MORE_HEAP - l::PAGE_SIZE),
        ("more heap", l::MORE_HEAP, l::MORE_HEAP + l::HEAP_MAX),
        ("code", l::CODE, l::CODE + l::CODE_MAX),
        ("memories", l::MEMORIES, l::MEMORIES + l::MEMORIES_MAX * l::MEMORY_STRIDE),
    ];
    for pair in ranges.windows(2) {
        let ((first, _, end), (second, start, _)) = (pair[0], pair[1]);
        // At least a page between them, so that running over the end of one faults.
        assert!(end < start, "{first} runs into {second}");
    }
    let (_, start, _) = ranges[0];
    assert!(start >= l::PAGE_SIZE, "a null pointer must fault");
    let (_, _, end) = ranges[ranges.len() - 1];
    assert!(end <= 1 << 47, "the lower half ends there");
}
