// What will happen, the earliest first; of the same moment, what was scheduled first.
//
//   keys    a binary heap of small plain values, which is all that is moved when it changes
//   slots   the events themselves, each at its place until it happens

import UkehiBase

struct Event {
    var process: Process?
    /// The process's life in which it may happen.
    var life: UInt32
    var body: () -> Void
}

struct EventQueue {
    private struct Key: BitwiseCopyable {
        var time: UInt64
        /// The order of scheduling above, the event's slot below.
        var orderAndSlot: UInt64

        @inline(__always)
        func precedes(_ other: Key) -> Bool {
            time != other.time ? time < other.time : orderAndSlot < other.orderAndSlot
        }
    }

    /// So many events may wait at once, and 2^40 pass through in all.
    private static let slotBits: UInt64 = 24

    private var keys: [Key] = []
    private var slots: [Event?] = []
    private var freeSlots: [Int] = []
    private var order: UInt64 = 0

    /// When the earliest event happens.
    var nextTime: UInt64? { keys.first?.time }

    mutating func push(_ event: Event, at time: UInt64) {
        let slot: Int
        if let free = freeSlots.popLast() {
            slot = free
            slots[slot] = event
        } else {
            slot = slots.count
            slots.append(event)
        }
        order += 1
        invariant(
            slot < 1 << Self.slotBits && order < 1 << (64 - Self.slotBits), "too many events")
        let key = Key(time: time, orderAndSlot: order << Self.slotBits | UInt64(slot))
        keys.append(key)
        keys.withUnsafeMutableBufferPointer { heap in
            var place = heap.count - 1
            while place > 0 {
                let parent = (place - 1) / 2
                guard key.precedes(heap[parent]) else { break }
                heap[place] = heap[parent]
                place = parent
            }
            heap[place] = key
        }
    }

    /// Takes the earliest event; there has to be one.
    mutating func pop() -> Event {
        let first = keys[0]
        let last = keys.removeLast()
        if !keys.isEmpty { sink(last) }
        let slot = Int(first.orderAndSlot & (1 << Self.slotBits - 1))
        var event: Event?
        swap(&event, &slots[slot])
        freeSlots.append(slot)
        guard let event else { fatalError("an event happened twice") }
        return event
    }

    /// Puts a key where the first one was, and below all that precede it.
    private mutating func sink(_ key: Key) {
        keys.withUnsafeMutableBufferPointer { heap in
            var place = 0
            while true {
                var child = 2 * place + 1
                guard child < heap.count else { break }
                if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
                guard heap[child].precedes(key) else { break }
                heap[place] = heap[child]
                place = child
            }
            heap[place] = key
        }
    }
}
