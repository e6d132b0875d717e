// Regions are divided by themselves: by their load each second, by their size when enough was written.
//
// The leader alone decides, one division of a region at a time, and a few of a lane. It then goes the way
// of one that was asked for (Lane+SplitRequests.swift): each part must have a key, ids are allocated, and
// the command goes into the log.

import Logging
import UkehiBase
import UkehiEnvironment
import UkehiState

extension Lane {
    /// Once a second: what was counted is looked at.
    func considerSplits() {
        let second = UInt64(max(1, 1000 / options.tickMilliseconds))
        guard ticks >= meteredAt + second else { return }
        let elapsed = (ticks - meteredAt) * UInt64(options.tickMilliseconds)
        meteredAt = ticks
        let rules = LoadRules(options)
        var all = 0.0
        var underWay = 0
        for region in orderedRegions where region.isLeader {
            region.load.endSecond(milliseconds: elapsed, threshold: rules.threshold)
            all += region.load.meter.last.operations
            if region.splitWaiter != nil { underWay += 1 }
        }
        for region in orderedRegions where region.isLeader && region.load.busySeconds > 0 {
            guard region.splitWaiter == nil else { continue }
            let share = all > 0 ? region.load.meter.last.operations / all : 0
            switch region.load.verdict(rules, in: region.descriptor.range, share: share, at: ticks)
            {
            case .divide(let key, let reason)?:
                if let delay = delay(of: region) {
                    hinder(region, delay)
                } else if underWay >= Limits.maxSplitsAtOnce {
                    hinder(region, .othersFirst)
                } else {
                    underWay += 1
                    divide(region, at: [key], because: reason)
                }
            case .hindered(let reason)?: hinder(region, reason)
            case nil: break
            }
        }
        lookAtSizes()
    }

    /// Why the region is not in a state in which a leader divides it unasked; nil: it is.
    func delay(of region: Region) -> SplitHindrance? {
        guard draining == nil else { return .stopping }
        guard region.absent.isEmpty, region.replacement == nil, region.holes.isEmpty else {
            return .incomplete
        }
        guard region.leavesAs == nil,
            region.aim == nil || region.aim?.progress == .done
                || region.aim?.progress == .refused
        else { return .membersChange }
        guard region.splitWaiter == nil else { return .refused(.pending) }
        do throws(SplitRefusal) {
            try checkMayBeDivided(region)
            return nil
        } catch {
            return .refused(error)
        }
    }

    /// It would be divided, and is not.
    func hinder(_ region: Region, _ reason: SplitHindrance) {
        guard region.load.remember(reason, at: ticks) else { return }
        logger.info(
            "a region is not divided for its load",
            metadata: ["region": "\(region.id)", "reason": "\(reason)"])
    }

    /// A division that nobody asked for was refused.
    func hinder(_ region: Region, because reason: SplitReason, _ refusal: SplitRefusal) {
        guard refusal != .notLeader else { return }
        switch reason {
        case .request: break
        case .load, .end: hinder(region, .refused(refusal))
        case .size:
            region.load.rememberOfSize(.refused(refusal), at: ticks)
            // Of the load it is tried again a second later.
            if refusal.passes { lookAgain(region) }
        }
    }

    // MARK: Size

    /// Looks how large regions are of which that is not known, or to which enough was written; off the lane, a few
    /// at a time.
    private func lookAtSizes() {
        let limit = UInt64(options.splitBytes)
        guard limit > 0, sizesAsked == 0 else { return }
        var asked: [(id: RegionID, written: UInt64)] = []
        for region in orderedRegions where region.isLeader {
            guard asked.count < Limits.maxSizesAtOnce else { break }
            guard region.load.size.isDue(at: ticks), delay(of: region) == nil else { continue }
            region.load.size.isBeingLookedAt = true
            asked.append((region.id, region.load.size.written))
        }
        guard !asked.isEmpty else { return }
        sizesAsked = asked.count
        let wanted = asked
        let applier = applier
        let lane = self
        snapshotWork.makingWorker.run {
            for (id, written) in wanted {
                lane.post(.sized(id, applier.size(of: id, limit: limit, written: written)))
            }
        }
    }

    /// What was found of a region; nil: it could not be read.
    func sized(_ id: RegionID, _ marks: KeyMarks?) {
        sizesAsked -= 1
        guard let region = regions[id], region.load.size.isBeingLookedAt else { return }
        let limit = UInt64(options.splitBytes)
        region.load.size.isBeingLookedAt = false
        guard let marks else { return }
        region.load.size.found(marks.bytes, limit: limit)
        guard marks.bytes >= limit else { return region.load.rememberOfSize(nil, at: ticks) }
        if let delay = delay(of: region) {
            region.load.rememberOfSize(delay, at: ticks)
            return lookAgain(region)
        }
        let keys = marks.cuts(partBytes: limit / 2).filter {
            $0 > region.descriptor.range.lower && region.descriptor.range.contains($0)
        }
        guard !keys.isEmpty else {
            return region.load.rememberOfSize(.fewKeys, at: ticks)
        }
        divide(region, at: keys, because: .size)
    }

    private func lookAgain(_ region: Region) {
        let pause = Limits.secondsUntilSizeAgain * 1000 / options.tickMilliseconds
        region.load.size.lookAgain(after: ticks + UInt64(pause))
    }

    // MARK: What goes over

    /// The region was divided: the new ones begin with what is known of their part of the load.
    func shareLoad(of region: Region, among children: [RegionDescriptor]) {
        guard region.isLeader else { return }
        let parts = region.load.divide(
            into: children.map(\.range), because: region.splitReason,
            threshold: options.splitLoadPerSecond, ids: children.map(\.region))
        region.splitReason = .request
        for (child, part) in zip(children, parts) { host?.inherit(part, by: child.region) }
    }

    private func refusals(of region: Region) -> [SplitRefusalInfo] {
        func info(_ cause: SplitRefusalInfo.Cause, _ hindrance: RememberedHindrance?)
            -> SplitRefusalInfo?
        {
            hindrance.map {
                SplitRefusalInfo(
                    cause: cause, reason: "\($0.reason)",
                    secondsAgo: (ticks - $0.at) / ticksPerSecond)
            }
        }
        return [
            info(.load, region.load.loadHindrance), info(.size, region.load.sizeHindrance),
        ].compactMap { $0 }
    }

    /// What is shown of the regions that are led here.
    func loads(_ question: LoadQuestion) -> [RegionLoadInfo] {
        let led = orderedRegions.filter { $0.isLeader && !$0.descriptor.isSystem }
        let all = led.map { region in
            let rates = region.load.meter.average
            return RegionLoadInfo(
                region: region.id, range: region.descriptor.range, readsPerSecond: rates.reads,
                writesPerSecond: rates.writes, bytesPerSecond: rates.bytes,
                sizeBytes: region.load.size.estimate, hot: [],
                refusals: refusals(of: region))
        }
        return question.choose(all).map { info in
            var info = info
            if let region = regions[info.region] {
                info.hot = LoadSplit.hotRanges(
                    region.load.samples.samples, most: Limits.maxHotRanges)
            }
            return info
        }
    }
}
