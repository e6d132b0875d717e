// Hot path. Committed entries to the state machine, and results back to who waits.

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState
import UkehiWAL

extension Lane {
    /// Adds a group's committed entries to the pass's apply batch.
    func handToApply(_ message: Message, _ region: Region) {
        guard let first = message.entries.first, let last = message.entries.last else { return }
        invariant(
            first.index == region.handedToApply + 1,
            "\(region.id) applies \(first.index) after \(region.handedToApply)")
        region.handedToApply = last.index
        observer?.committed(
            region: region.id, entries: message.entries, term: region.raft.term)
        var bytes = 0
        var hasChange = false
        for entry in message.entries {
            bytes += entry.recordBytes
            if Self.changesRegion(entry) {
                hasChange = true
            } else if case .compactLog(let index)? = EntryPayload.admin(of: entry.data) {
                // Of what stands behind it an entry can know nothing.
                region.compactionTarget = max(region.compactionTarget, min(index, entry.index))
            }
        }
        applyBytes += bytes
        if region.isFirstLed, !applier.appliesInline { servingNext.append(region) }
        if hasChange { return handChanges(message.entries, region) }
        applyBatch.append(
            region: region.id, entries: message.entries, wantsResults: !region.proposals.isEmpty)
    }

    /// Applies the pass's batch: here if the state machine is quick, else on the apply thread.
    func startApply() {
        if rare.isOn, !applyBatch.isEmpty, rare.takes(.appliedLate) { return scheduleLocally() }
        if applier.appliesInline {
            // Applying can make more committed entries available: the bound is one page each.
            while !applyBatch.isEmpty {
                var batch = applyBatch
                applyBatch = ApplyBatch()
                do {
                    try applier.apply(&batch)
                } catch {
                    return fail(NodeError(error))
                }
                completeApply(batch)
            }
            return
        }
        if !servingNext.isEmpty {
            for region in servingNext { applyAtOnce(region) }
            servingNext.removeAll()
        }
        guard !isApplying, !applyBatch.isEmpty else { return }
        if rare.isOn, waitsToDivide() { return }
        var batch = applyBatch
        applyBatch = ApplyBatch()
        if rare.isOn, batch.items.count > 1, rare.takes(.fewApplied) {
            let now = rare.pick(1...batch.items.count - 1)
            applyBatch.items = Array(batch.items[now...])
            batch.items.removeSubrange(now...)
            scheduleLocally()
        }
        do throws(StateError) {
            if !rare.takes(.appliedOnThread),
                try applier.applyWithoutWaiting(&batch, atMost: Limits.maxApplyBytesOnLane)
            {
                return completeApply(batch)
            }
        } catch {
            return fail(NodeError(error))
        }
        isApplying = true
        handToApplyThread(batch)
    }

    private func handToApplyThread(_ batch: ApplyBatch) {
        let lane = self
        applyWorker.run {
            var batch = batch
            do throws(StateError) {
                try lane.applier.apply(&batch)
            } catch {
                return lane.fail(NodeError(error))
            }
            lane.post(applied: batch)
        }
    }

    /// A batch is applied: tells the groups, answers waiting clients and reads.
    func completeApply(_ batch: ApplyBatch) {
        for item in batch.items {
            for entry in item.entries { applyBytes -= entry.recordBytes }
            guard let region = regions[item.region], let last = item.entries.last else { continue }
            for entry in item.entries { region.appliedBytes += UInt64(entry.recordBytes) }
            invariant(
                last.index > region.applied,
                "\(region.id) applied \(last.index) after \(region.applied)")
            region.applied = last.index
            // Before the core hears that the entry is applied: it then leaves a joint configuration.
            let version = region.descriptor.epoch.version
            if last.kind != .normal || region.handedChanges.first?.index == last.index {
                applyChange(at: last.index, region)
            }
            if region.splitWaiter != nil {
                answerSplit(
                    region, at: last.index, term: last.term,
                    divided: region.descriptor.epoch.version > version)
            }
            // As the core's own storageApply message asks to be answered.
            step(
                Message(
                    kind: .storageApplyResponse, to: region.peer, from: .localApply,
                    entries: item.entries), region)
            answer(item, region)
            serveApplied(region)
            if !region.dueReads.isEmpty { serveDueReads(region) }
            if let aim = region.aim, aim.progress == .working, let awaited = aim.confirmation,
                last.index >= awaited.index
            {
                drive(region)
            }
            if region.isFirstLed { noteServing(region, last.term) }
            trimCache(region)
            if region.isRemoved {
                leave(region, as: region.descriptor)
            } else if region.replacement != nil {
                goOnReplacing(region)
            }
        }
    }

    /// Gives each waiting client its command's result.
    private func answer(_ item: ApplyItem, _ region: Region) {
        while let proposal = region.proposals.first, let last = item.entries.last,
            proposal.index <= last.index
        {
            region.proposals.removeFirst()
            guard let first = item.entries.first, proposal.index >= first.index else {
                invariant(false, "a proposal at \(proposal.index) was passed over")
                return
            }
            let position = Int(proposal.index - first.index)
            #if BugBank
                let isSame = PlantedBug.answersByIndexAlone.isPlanted
            #else
                let isSame = false
            #endif
            guard item.entries[position].term == proposal.term || isSame else {
                // Another leader's entry was committed in its place: it can never be applied.
                for waiter in proposal.waiters where !waiter.isAnswered {
                    reply(.failed(region.notLeader), waiter.sink, waiter.tag)
                }
                continue
            }
            guard !proposal.waiters.isEmpty else { continue }
            let results = item.results[position]
            #if BugBank
                if isSame, results.count != proposal.waiters.count { continue }
            #endif
            invariant(
                results.count == proposal.waiters.count,
                "\(results.count) results for \(proposal.waiters.count) commands")
            for (waiter, result) in zip(proposal.waiters, results) where !waiter.isAnswered {
                if case .staleEpoch = result {
                    // The range changed between proposing and applying: nothing ran.
                    let current = [region.info] + region.parts
                    reply(
                        .failed(.rejected(.staleEpoch(current: current))), waiter.sink, waiter.tag)
                } else {
                    reply(.command(result), waiter.sink, waiter.tag)
                }
            }
        }
    }

    /// Applied entries are kept in memory only for peers that still need them, within a bound.
    private func trimCache(_ region: Region) {
        if !region.isLeader || region.log.isOverBound || rare.takes(.entryCacheDropped) {
            region.log.evict(upTo: region.applied)
        } else {
            region.log.evict(upTo: region.commonIndex())
        }
    }
}
