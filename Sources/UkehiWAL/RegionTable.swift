// Hot path: looked up for each item of each batch.
//
// All regions of a log, each in a slot that it keeps.
//
//   places   a hash table of slots, open addressing: region -> slot + 1, 0 where there is none
//   pages    256 slots each: growing moves nothing, and leaves little unused
//
// A look-up compares the region in the slot itself, which its caller is about to read anyway.

import UkehiBase

/// All regions of a log.
///
/// Safety: one owner at a time: recovery or an inspector, then the log under its lock. Nobody holds
/// an access to it while calling it again, so that exclusivity needs no check at run time.
final class RegionTable: @unchecked Sendable {
    @exclusivity(unchecked)
    private(set) var count = 0
    /// Whether a region that is not in the table was never in the log either.
    @exclusivity(unchecked)
    var isComplete = true
    @exclusivity(unchecked)
    private var pages: ContiguousArray<UnsafeMutablePointer<RegionLog>> = []
    @exclusivity(unchecked)
    private var places = UnsafeMutableBufferPointer<UInt32>(start: nil, count: 0)
    /// Of a product, so that its highest bits give the place.
    @exclusivity(unchecked)
    private var shift: UInt64 = 64

    private static let slotsPerPage = 256

    /// Only so that what is read for it is read.
    @exclusivity(unchecked)
    private var touched: UInt32 = 0

    init() { resize(to: 16) }

    deinit {
        for position in pages.indices {
            let used = min(count - position * RegionTable.slotsPerPage, RegionTable.slotsPerPage)
            pages[position].deinitialize(count: used)
            pages[position].deallocate()
        }
        places.deallocate()
    }

    /// Bytes allocated for it, without what is behind slots.
    var allocatedBytes: Int {
        pages.count * RegionTable.slotsPerPage * MemoryLayout<RegionLog>.stride
            + places.count * MemoryLayout<UInt32>.stride
    }

    /// The region's slot, made if it is new.
    func slot(of region: RegionID) -> Int {
        var place = home(of: region)
        while places[place] != 0 {
            let slot = Int(places[place]) - 1
            if self[slot].region == region { return slot }
            place = (place + 1) & (places.count - 1)
        }
        return add(region, at: place)
    }

    /// Takes another table's regions, none of which is in this one; the other is not to be used again.
    func add(_ other: RegionTable) {
        isComplete = other.isComplete
        var size = places.count
        while (count + other.count) * 8 > size * 7 { size *= 2 }
        if size > places.count { resize(to: size) }
        for position in 0..<other.count {
            let slot = slot(of: other[position].region)
            self[slot] = other[position]
        }
    }

    /// The region's slot; nil if there is none.
    func find(_ region: RegionID) -> Int? {
        var place = home(of: region)
        while places[place] != 0 {
            let slot = Int(places[place]) - 1
            if self[slot].region == region { return slot }
            place = (place + 1) & (places.count - 1)
        }
        return nil
    }

    subscript(slot: Int) -> RegionLog {
        _read { yield pointer(slot).pointee }
        _modify { yield &pointer(slot).pointee }
    }

    /// Brings the index of each of these regions into the processor's cache. Where there are many regions
    /// none is there, and one after the other each would be waited for; the loads of a loop that does
    /// nothing else are waited for together.
    func touch(_ slots: ContiguousArray<Int32>) {
        var sum: UInt32 = 0
        for slot in slots { sum &+= pointer(Int(slot)).pointee.index.touched }
        touched = sum
    }

    @inline(__always)
    private func pointer(_ slot: Int) -> UnsafeMutablePointer<RegionLog> {
        pages[slot / RegionTable.slotsPerPage] + slot % RegionTable.slotsPerPage
    }

    /// Fibonacci hashing: ids are given one after the other, and are spread evenly by it.
    @inline(__always)
    private func home(of region: RegionID) -> Int {
        Int(truncatingIfNeeded: (region.rawValue &* 0x9e37_79b9_7f4a_7c15) >> shift)
    }

    @inline(never)
    private func add(_ region: RegionID, at place: Int) -> Int {
        if count == pages.count * RegionTable.slotsPerPage {
            pages.append(.allocate(capacity: RegionTable.slotsPerPage))
        }
        let slot = count
        count += 1
        pointer(slot).initialize(to: RegionLog(region: region, isNew: isComplete))
        places[place] = UInt32(count)
        // At most seven places of eight are taken.
        if count * 8 > places.count * 7 { resize(to: places.count * 2) }
        return slot
    }

    private func resize(to size: Int) {
        places.deallocate()
        places = .allocate(capacity: size)
        places.initialize(repeating: 0)
        shift = UInt64(64 - size.trailingZeroBitCount)
        for slot in 0..<count {
            var place = home(of: self[slot].region)
            while places[place] != 0 { place = (place + 1) & (size - 1) }
            places[place] = UInt32(slot + 1)
        }
    }
}
