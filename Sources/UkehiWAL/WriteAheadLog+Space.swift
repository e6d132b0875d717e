// What the log takes, of the disk and in memory, beside what is needed of it.

import UkehiBase

/// What a log takes at one moment.
package struct LogSpace: Sendable, Hashable {
    /// Segments in use, the active one included, and the bytes of their files.
    package var segments = 0
    package var segmentBytes = 0
    /// Files of dead segments that wait for their next life, of the one that is prepared, and of the
    /// reserve for a start on a full volume.
    package var idleBytes = 0
    /// Of entries that are needed, with their directory items, and of states, about.
    package var neededBytes = 0

    package init() {}
}

extension WriteAheadLog {
    /// What the log takes now.
    package var space: LogSpace {
        monitor.withLock {
            var space = LogSpace()
            space.segments = segments.count
            for segment in segments {
                let all = segment.end == nil ? Int(segment.header.capacity) : 0
                space.segmentBytes += max(segment.fileBytes, all)
            }
            let idle = idleSegments.count + (spare == nil ? 0 : 1)
            space.idleBytes = idle * options.segmentBytes
            space.idleBytes += reserve.byteCount
            for count in scheduler.use.counts { space.neededBytes += count.liveBytes }
            return space
        }
    }

    /// Bytes of memory for regions and where their entries are; what their owner said of them aside.
    /// Walks over all regions, some at a time.
    package func indexBytes() -> Int {
        var (bytes, next) = (0, 0)
        monitor.lock()
        defer { monitor.unlock() }
        while next < scheduler.regions.count {
            for slot in next..<min(next + PurgeScan.pieceSlots, scheduler.regions.count) {
                bytes += scheduler.regions[slot].index.allocatedBytes
            }
            next += PurgeScan.pieceSlots
            monitor.unlock()
            monitor.lock()
        }
        return bytes + scheduler.regions.allocatedBytes
    }
}
